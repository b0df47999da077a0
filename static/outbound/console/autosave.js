/* The page's form, if it is a long one: stores its text while its author types, and shows who else has it open.

   Each change is kept in this browser at once and sent to the server a moment later; the copy in the browser is deleted when
   the server has it. The server restores the newest text when it renders the form. */
import { csrfToken, parseJson } from "./page.js";

const SAVE_DELAY = 800;
const RETRY_DELAY = 5_000;
const REPORT_INTERVAL = 15_000;
const KEPT_FOR = 30 * 24 * 3600 * 1000;
/* Fields that do not belong to the text. */
const NOT_SAVED = new Set(["csrfmiddlewaretoken", "ticket", "autosave", "upto", "confirm", "as_customer", "as_company"]);
/* A browser sends at most 64 KiB while a page closes. */
const MAX_LEAVING_LENGTH = 60_000;

const place = document.querySelector("[data-open-form]");
const form = place?.closest("form");
const { openForm: name, address, teammate, page, opened, autosaves } = place?.dataset ?? {};
const prefix = `outbound-autosave/${teammate}/`;

const texts = {
  loggedOut: "Your text is kept in this browser until you log in.",
  unsent: "Your text is not on the server yet. It is kept in this browser.",
  notSaved: "No connection, so nothing was saved. Your text is kept in this browser. Try again when you are online.",
  lost: "Your text is saved neither on the server nor in this browser. Keep this page open.",
};

/* The fields before the first change. A restored or refused text differs from the stored one already. */
let baseline = null;
const isChangedAlready = !!place?.querySelector("[data-discard]") || place?.dataset.bound !== undefined;
let latest = "";
let typedAt = 0;
let revision = Number(place?.dataset.revision ?? 0);
let isUnsent = false;
let isStoredHere = true;
let isSending = false;
let isLeaving = false;
/* Another page is on its way. It may have been rendered before the last save, so it needs the copy in this browser. */
let hasNextPage = false;
let timer = 0;

const tabField = () => form.querySelector("input[name=autosave]");
const tab = () => tabField().value;
const storageKey = (ofTab) => `${prefix}${name}/${ofTab}`;

function readFields() {
  const fields = {};
  for (const [field, value] of new FormData(form)) {
    if (typeof value === "string" && !NOT_SAVED.has(field)) (fields[field] ??= []).push(value);
  }
  /* A field that only says what another one is for, such as reply or note. */
  form.querySelectorAll("[data-text-field]").forEach(({ name: field, dataset }) => {
    if (!fields[dataset.textField]?.some(Boolean)) delete fields[field];
  });
  return JSON.stringify(fields);
}

function showState(text) {
  const line = document.querySelector("[data-autosave-state]");
  if (line && line.textContent !== text) line.textContent = text;
}

/* The copy in this browser. */
function storeHere() {
  try {
    localStorage.setItem(storageKey(tab()), JSON.stringify({ fields: latest, typedAt, revision, tab: tab(), page }));
    isStoredHere = true;
  } catch {
    isStoredHere = false;
  }
}
function removeHere(ofTab) {
  try { localStorage.removeItem(storageKey(ofTab)); } catch { /* Storage is blocked. */ }
}
function storedCopies() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix)).map((key) => [key, parseJson(localStorage.getItem(key), {})]);
  } catch {
    return [];
  }
}

const currentText = () => ({ fields: latest, typedAt, revision, tab: tab(), page });

function reportBody(values) {
  const body = new FormData();
  Object.entries({ csrfmiddlewaretoken: csrfToken(), form: name, teammate, opened, ...values }).forEach(([key, value]) => body.append(key, value));
  return body;
}
const textValues = (text) => ({ fields: text.fields, tab: text.tab, page: text.page, revision: text.revision, age: Math.max(0, Date.now() - text.typedAt) });

/* A change that was taken back leaves nothing to restore. */
const changeValues = (text) => (!isChangedAlready && text.fields === baseline ? { tab: text.tab, discard: 1 } : textValues(text));

/* Post a report. Return { status, answer }; status 0 without a connection, 401 without a session. */
async function post(values, options = {}) {
  try {
    const answer = await fetch(address, { method: "POST", body: reportBody(values), credentials: "same-origin", ...options });
    if (answer.redirected) {
      document.dispatchEvent(new CustomEvent("logged-out"));
      return { status: 401, answer: {} };
    }
    const isJson = (answer.headers.get("content-type") ?? "").includes("json");
    return { status: answer.status, answer: isJson ? await answer.json() : {} };
  } catch {
    return { status: 0, answer: {} };
  }
}

function saveLater(delay) {
  clearTimeout(timer);
  timer = setTimeout(save, delay);
}

/* Another tab has this text, or has saved or discarded it: this page continues under a name of its own. */
function continueAs(newTab, sent) {
  removeHere(sent.tab);
  tabField().value = newTab;
  revision = 0;
  storeHere();
  saveLater(0);
}

const handlers = {
  200({ revision: stored, saved_at: savedAt, new_tab: newTab }, sent) {
    if (newTab) return continueAs(newTab, sent);
    revision = stored ?? 0;
    if (latest !== sent.fields) return saveLater(SAVE_DELAY);
    isUnsent = false;
    if (!hasNextPage) removeHere(sent.tab);
    return showState(savedAt ? `Saved automatically at ${savedAt}. Only you see this.` : "");
  },
  401() { showState(texts.loggedOut); },
  403({ wrong }) {
    showState(wrong ?? texts.loggedOut);
    /* A login in another tab changed the CSRF token, which session.js renews. */
    if (!wrong) saveLater(RETRY_DELAY);
  },
  404({ wrong }, sent) {
    removeHere(sent.tab);
    showState(wrong ?? "");
  },
};

async function save() {
  if (!isUnsent || isSending || isLeaving) return;
  if (latest.length > Number(autosaves)) {
    showState(`This text has more than ${Number(autosaves).toLocaleString("en")} characters and is not saved automatically. Use the button to save it.`);
    return;
  }
  isSending = true;
  const sent = currentText();
  const { status, answer } = await post(changeValues(sent));
  isSending = false;
  if (isLeaving) return;
  if (handlers[status]) {
    handlers[status](answer, sent);
    showCompany(answer);
  } else {
    showState(isStoredHere ? answer.wrong ?? texts.unsent : texts.lost);
    saveLater(RETRY_DELAY);
  }
}

function noteChange() {
  if (isLeaving || baseline === null) return;
  const now = readFields();
  if (now === (latest || baseline)) return;
  [latest, typedAt, isUnsent] = [now, Date.now(), true];
  storeHere();
  saveLater(SAVE_DELAY);
}

/* Before the first change: opening a form stores nothing. */
function noteBaseline() { baseline ??= readFields(); }

/* Send texts that an earlier page could not send. If one is the newest, the server renders it. */
async function sendStoredCopies() {
  let isNewer = false;
  const shown = readFields();
  for (const [key, copy] of storedCopies()) {
    if (!(Date.now() - copy.typedAt < KEPT_FOR)) localStorage.removeItem(key);
    else if (key.startsWith(`${prefix}${name}/`) && !(place.dataset.bound !== undefined && copy.tab === tab())) {
      let { status, answer } = await post(textValues(copy));
      if (answer.new_tab && !answer.is_ended) ({ status, answer } = await post(textValues({ ...copy, tab: answer.new_tab })));
      if ([200, 404].includes(status)) localStorage.removeItem(key);
      isNewer ||= status === 200 && answer.is_newest && copy.fields !== shown;
    }
  }
  if (isNewer && !latest && place.dataset.bound === undefined) {
    isLeaving = true;
    location.replace(location.href);
  }
}

async function discard() {
  leave();
  removeHere(tab());
  const { status } = await post({ tab: tab(), discard: 1 });
  if (status === 200) location.replace(location.href);
  else isLeaving = false;
}

const listNames = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)} have` : `${names[0]} has`);

function showCompany({ others, saved }) {
  if (!others) return;
  const said = [];
  if (saved) said.push(`${saved.by} saved a newer version at ${saved.at}. When you save, you can compare it with yours.`);
  if (others.length) said.push(`${listNames(others)} this open too.`);
  const line = place.querySelector("[data-others]");
  if (line.textContent !== said.join(" ")) line.textContent = said.join(" ");
  line.hidden = !said.length;
}

async function report() {
  if (document.hidden || isLeaving) return;
  const { status, answer } = await post({});
  if (status === 200) showCompany(answer);
}

/* Whether the teammate has changed the form since it was opened, and not sent it. */
export const hasTypedText = () => !isLeaving && Boolean(latest) && latest !== baseline;

/* The form is sent, so its text is unsaved no more. */
function leave() {
  isLeaving = true;
  clearTimeout(timer);
}

function sendWhileLeaving() {
  if (!isUnsent || isLeaving || latest.length > MAX_LEAVING_LENGTH) return;
  post(changeValues(currentText()), { keepalive: true });
}

function watchText() {
  ["focusin", "keydown", "pointerdown", "beforeinput"].forEach((type) => form.addEventListener(type, noteBaseline, { capture: true }));
  ["input", "change", "trix-change"].forEach((type) => form.addEventListener(type, noteChange));
  /* Buttons of the rule builder and others change hidden fields after their click. */
  form.addEventListener("click", () => setTimeout(noteChange));
  document.body.addEventListener("composer-changed", () => { if (baseline !== null) setTimeout(noteChange); });
  /* An offline browser would replace the page by its error page. */
  document.addEventListener("submit", (event) => {
    if (event.target !== form || navigator.onLine) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    showState(texts.notSaved);
  }, true);
  document.addEventListener("submit", (event) => {
    if (event.target === form && !event.defaultPrevented) leave();
  });
  /* The final sheet sends the form too, and its answer leads to another page. */
  document.addEventListener("htmx:beforeOnLoad", ({ detail }) => { if (detail.xhr.getResponseHeader("HX-Redirect")) leave(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) isLeaving = hasNextPage = false; });
  window.addEventListener("pagehide", sendWhileLeaving);
  window.addEventListener("online", () => saveLater(0));
  document.addEventListener("logged-in", () => saveLater(0));
  window.addEventListener("beforeunload", (event) => {
    hasNextPage = true;
    const hasFiles = [...form.querySelectorAll("input[type=file][name]")].some((field) => field.files.length);
    /* Without an action of the user, browsers only log that they do not ask. */
    if (!isLeaving && (isUnsent || hasFiles) && navigator.userActivation?.hasBeenActive !== false) event.preventDefault();
  });
  place.querySelector("[data-discard]")?.addEventListener("click", discard);
}

if (form) {
  if (autosaves) {
    watchText();
    sendStoredCopies();
    /* A refused form shows posted text. */
    if (place.dataset.bound !== undefined) addEventListener("load", () => { baseline = ""; noteChange(); });
  }
  if (!name.endsWith("/new")) {
    report();
    setInterval(report, REPORT_INTERVAL);
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) save(); else report(); });
}
