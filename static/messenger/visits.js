// Visits, and polling for news.
(function (messenger) {
  "use strict";

  const { state, guarded, logProblem, request } = messenger;
  const MINUTE = 60 * 1000;
  const VISIT_INTERVAL = 5 * MINUTE;
  // Settings of Intercom's messenger, which are not attributes of the user.
  const FOREIGN_SETTINGS = new Set(
    messenger.isIntercom
      ? "installation_type link_color theme_mode messenger_style_id z_index page_title intercom_user_jwt auth_tokens".split(" ")
      : [],
  );
  let visitCount = 0; // only the answer to the latest visit counts
  let activeAt = Date.now();
  let timer = 0;
  let queue = []; // commands that wait for the first visit
  let isShutDown = false; // commands between a logout and the next login are dropped

  // Return a value as JSON has it: dates as unix seconds.
  function toPlain(value) {
    if (value instanceof Date) return Math.floor(value.getTime() / 1000);
    if (!value || typeof value !== "object") return value;
    const copy = Array.isArray(value)
      ? value.map(toPlain)
      : Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, toPlain(inner)]));
    // Old libraries add a toJSON to arrays that returns text.
    return Object.defineProperty(copy, "toJSON", { value: undefined });
  }

  function userFacts() {
    const facts = Object.entries(state.settings).filter(([name, value]) => typeof value !== "function" && !FOREIGN_SETTINGS.has(name));
    return toPlain(Object.fromEntries(facts));
  }

  async function visit() {
    const { session, settings } = state;
    const number = ++visitCount;
    state.visitedAt = Date.now();
    const facts = { user: userFacts(), visitor: messenger.loadVisitorToken(), app_id: settings.app_id };
    const answer = await request("POST", "ping", facts);
    if (session !== state.session || number !== visitCount) return;
    if (answer.status !== 200) {
      state.failures += 1;
      if (answer.status) logProblem(messenger.errorMessage(answer) || `ping was answered with ${answer.status}`);
      if (answer.status === 403) {
        // The page could not prove who the user is: show no one's conversations.
        state.visited = false;
        messenger.resetState();
      } else {
        state.visitedAt = 0; // visit again soon
      }
      return;
    }
    state.failures = 0;
    for (const error of answer.data.errors) logProblem(error.message);
    const { user } = answer.data;
    const before = state.user;
    // A lead who logs in stays the same person. Any other change shows nothing of the person before.
    const isSame = user && (!before || !before.id || user.id === before.id || (before.type === "lead" && user.type === "user"));
    if (before && !isSame) messenger.resetState();
    messenger.setSessionToken(answer.data.token);
    state.user = user;
    messenger.saveVisitorToken(answer.data.visitor, Number(state.settings.session_duration));
    state.announcements = answer.data.messages.filter((message) => message.format === "announcement" && !state.handled.has(message.id));
    state.visited = true;
    await messenger.loadConversations();
    if (session !== state.session || !state.visited) return;
    if (document.body) showMessenger();
    else document.addEventListener("DOMContentLoaded", guarded(showMessenger), { once: true });
  }

  function showMessenger() {
    messenger.attachMessenger();
    messenger.applyAppearance();
    messenger.drawLauncher();
    messenger.drawSnippets();
    messenger.announceNext();
    const actions = queue;
    queue = [];
    for (const action of actions) guarded(action)();
  }

  // Run an action now, or after the first visit.
  function whenReady(action) {
    if (state.visited) messenger.attachMessenger(); // the page may have removed the element
    if (state.visited && messenger.host.isConnected) guarded(action)();
    else if (!isShutDown) queue.push(action);
  }

  function pollDelay() {
    const idle = Date.now() - activeAt;
    const calm = document.hidden ? 5 * MINUTE : idle > 5 * MINUTE ? MINUTE : messenger.isOpen() ? 4000 : 15000;
    const untilVisit = document.hidden || state.failures ? Infinity : Math.max(1000, state.visitedAt + VISIT_INTERVAL - Date.now());
    return Math.min(10 * MINUTE, calm * 2 ** Math.min(state.failures, 6), untilVisit);
  }

  function schedulePoll() {
    clearTimeout(timer);
    if (state.booted) timer = setTimeout(guarded(poll), pollDelay());
  }

  async function poll() {
    const { session } = state;
    const isDue = Date.now() - state.visitedAt >= VISIT_INTERVAL;
    if (!document.hidden && isDue) await visit();
    else if (!document.hidden || state.visited) await messenger.loadConversations();
    if (session === state.session) {
      if (state.visited) messenger.attachMessenger();
      messenger.updateTimes();
      schedulePoll();
    }
  }

  document.addEventListener("visibilitychange", guarded(() => state.booted && !document.hidden && poll()));
  window.addEventListener("online", guarded(() => state.booted && poll()));
  for (const name of ["pointerdown", "keydown", "scroll"]) {
    window.addEventListener(name, () => {
      const wasIdle = Date.now() - activeAt > 5 * MINUTE;
      activeAt = Date.now();
      if (wasIdle && state.booted) guarded(poll)();
    }, { passive: true, capture: true });
  }

  function logIn(settings) {
    state.settings = settings;
    if (settings.api_base) messenger.setApiBase(settings.api_base);
    state.booted = true;
    isShutDown = false;
    state.session += 1;
    schedulePoll();
    return visit();
  }

  function logOut() {
    state.session += 1;
    state.booted = state.visited = false;
    isShutDown = true;
    clearTimeout(timer);
    queue = [];
    state.settings = {};
    messenger.resetState();
    messenger.clearStorage();
  }

  Object.assign(messenger, { toPlain, visit, whenReady, schedulePoll, logIn, logOut });
})(messenger);
