/* Refreshes the report of a message as often as the server says: every few seconds while it sends, else more slowly, and not
   at all if nothing changes or the page is hidden. */
import { morph } from "../console/morph.js";

const MAX_INTERVAL = 120_000;
/* The page asks for at most a tenth of the time, however slow the server is. */
const REST = 9;
const FAILED = "The console cannot be reached, so these numbers are not the newest. They are refreshed when the connection is back.";

const report = document.getElementById("report");
const said = document.getElementById("report-said");
const trouble = document.getElementById("report-trouble");
let [timer, request, failures] = [0, null, 0];

function refreshLater(took = 0) {
  clearTimeout(timer);
  const interval = Number(report.dataset.interval) * 1000;
  if (!interval || document.hidden) return;
  timer = setTimeout(refresh, Math.min(MAX_INTERVAL, Math.max(interval * 2 ** failures, took * REST)));
}

async function refresh() {
  clearTimeout(timer);
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  const begun = performance.now();
  try {
    const answer = await fetch(report.dataset.refresh + location.search, { signal, cache: "no-store", credentials: "same-origin" });
    if (answer.redirected) {
      document.dispatchEvent(new CustomEvent("logged-out"));
      return;
    }
    if (answer.status === 204) {
      location.reload();
      return;
    }
    if (!answer.ok) throw new Error(`${answer.status}`);
    const text = await answer.text();
    if (signal.aborted) return;
    show(new DOMParser().parseFromString(text, "text/html").getElementById("report"));
    failures = 0;
  } catch {
    if (signal.aborted) return;
    failures += 1;
  }
  if (failures !== 1) showTrouble(failures ? FAILED : "");
  refreshLater(performance.now() - begun);
}

function show(wanted) {
  const { say } = report.dataset;
  const hadFocus = report.contains(document.activeElement);
  morph(report, wanted);
  /* A button that no longer exists leaves the focus nowhere. */
  if (hadFocus && !report.contains(document.activeElement)) {
    (report.querySelector(".ob-bar-buttons button") ?? report).focus({ preventScroll: true });
  }
  window.htmx.process(report);
  report.querySelectorAll("canvas.chart").forEach(showChart);
  if (report.dataset.say !== say) said.textContent = report.dataset.say;
}

/* The first failure may be a short one. */
function showTrouble(text) {
  if (trouble.textContent !== text) trouble.textContent = text;
  trouble.hidden = !text;
}

/* The theme draws the charts that the page has when it loads. */
function showChart(canvas) {
  const { type, value, options } = canvas.dataset;
  const chart = window.Chart.getChart(canvas);
  if (!chart) {
    drawn.set(canvas, value);
    new window.Chart(canvas.getContext("2d"), { type, data: JSON.parse(value), options: JSON.parse(options) });
  } else if (drawn.get(canvas) !== value) {
    drawn.set(canvas, value);
    chart.config.type = type;
    chart.data = JSON.parse(value);
    chart.update("none");
  }
}
const drawn = new WeakMap();

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) { if (Number(report.dataset.interval)) refresh(); return; }
  clearTimeout(timer);
  request?.abort();
});
window.addEventListener("pageshow", (event) => { if (event.persisted) refresh(); });
document.addEventListener("logged-in", refresh);
report.querySelectorAll("canvas.chart").forEach((canvas) => drawn.set(canvas, canvas.dataset.value));
refreshLater();
