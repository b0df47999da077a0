/* Asks the server for news: every few seconds, more slowly if the user is idle, rarely if the page is hidden. */
import { csrfToken } from "../console/page.js";
import { hasUnseenOpen, pageData } from "./dom.js";
import { showNews, showTrouble } from "./render.js";

const ACTIVE_INTERVAL = 4000;
const IDLE_INTERVAL = 15000;
const HIDDEN_INTERVAL = 60000;
const IDLE_AFTER = 5 * 60000;

let tag = "";
let timer = 0;
let isPolling = false;
let failures = 0;
let activeAt = Date.now();

const isIdle = () => Date.now() - activeAt > IDLE_AFTER;

function newsAddress() {
  const address = new URL(pageData().news, location.href);
  if (pageData().conversation) address.searchParams.set("of", pageData().conversation);
  return address;
}

function interval() {
  if (document.hidden) return HIDDEN_INTERVAL;
  return (isIdle() ? IDLE_INTERVAL : ACTIVE_INTERVAL) * Math.min(2 ** failures, 8);
}

function pollLater() {
  clearTimeout(timer);
  timer = setTimeout(poll, interval());
}

async function poll() {
  clearTimeout(timer);
  if (isPolling) return;
  isPolling = true;
  try {
    const options = { headers: { "If-None-Match": tag }, cache: "no-store", credentials: "same-origin" };
    const answer = await fetch(newsAddress(), options);
    if (answer.redirected) {
      document.dispatchEvent(new CustomEvent("logged-out"));
      return;
    }
    if (answer.status === 200) {
      tag = answer.headers.get("ETag") ?? "";
      if (showNews(new DOMParser().parseFromString(await answer.text(), "text/html"))) markSeen();
    } else if (answer.status !== 304) throw new Error(`${answer.status}`);
    failures = 0;
    showTrouble("");
  } catch {
    failures += 1;
    if (failures > 2) showTrouble("The console cannot be reached. News appears when the connection is back.");
  } finally {
    isPolling = false;
  }
  pollLater();
}

/* A teammate who can answer has seen the open conversation while the page is visible. */
function markSeen() {
  const { seen } = pageData();
  if (!seen || document.hidden) return;
  const options = { method: "POST", headers: { "X-CSRFToken": csrfToken() }, credentials: "same-origin" };
  fetch(seen, options).then(poll, () => {});
}

function noticeActivity() {
  const wasIdle = isIdle();
  activeAt = Date.now();
  if (wasIdle) poll();
}

export function startPolling() {
  tag = pageData().tag;
  ["pointermove", "keydown", "scroll"].forEach((name) => {
    document.addEventListener(name, noticeActivity, { passive: true, capture: true });
  });
  document.addEventListener("logged-in", poll);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return pollLater();
    poll();
    if (hasUnseenOpen()) markSeen();
  });
  if (hasUnseenOpen()) markSeen();
  else pollLater();
}
