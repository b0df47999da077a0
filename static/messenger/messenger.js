// What the page calls, when we visit, and when we look for something new.

const MINUTE = 60 * 1000;
const VISIT_EVERY = 5 * MINUTE;
const MOST_UPDATES = 20;
const UPDATES_WITHIN = 30 * MINUTE;
const FIRST = 50;

let settings = {};
let booted = false;
let pinged = false;
let session = 0; // counts log-ins and log-outs: what was asked for in one is nothing to the next
let who = null;
let conversations = [];
let most = FIRST; // of them are asked for
let older = 0; // how many more there are
let announcements = [];
let unread = 0;
let visitedAt = 0;
let visits = 0; // of two under way the answer of the later one counts: the earlier was asked before the page knew better
let activeAt = Date.now();
let failures = 0;
let timer = 0;
let updates = [];
let waiting = [];
let over = false; // what is called between a log-out and the next log-in is neither's
const hooks = { show: [], hide: [], unread: [] };

function called(functions, ...given) {
  for (const one of functions) guarded(one)(...given);
}

// A visit

function facts() {
  const told = {};
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value !== "function") told[name] = plain(value);
  }
  return told;
}

function plain(value) {
  if (value instanceof Date) return Math.floor(value.getTime() / 1000);
  if (!value || typeof value !== "object") return value;
  const told = Array.isArray(value)
    ? value.map(plain)
    : Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  // Old libraries teach arrays to become text instead.
  return Object.defineProperty(told, "toJSON", { value: undefined });
}

async function visit() {
  const mine = session;
  const turn = ++visits;
  visitedAt = Date.now();
  const answer = await ask("POST", "ping", { user: facts(), visitor: kept(), app_id: settings.app_id });
  if (mine !== session || turn !== visits) return;
  if (answer.status !== 200) {
    failures += 1;
    if (answer.status) complain(said(answer) || `ping was answered with ${answer.status}`);
    if (answer.status === 403) withdraw();
    else visitedAt = 0; // to be tried again
    return;
  }
  failures = 0;
  for (const wrong of answer.data.errors) complain(wrong.message);
  const user = answer.data.user;
  // A lead who logs in stays who they are; whoever else is another one now is nobody's business of before.
  const stays = user && (!who || !who.id || user.id === who.id || (who.type === "lead" && user.type === "user"));
  if (who && !stays) startOver();
  token = answer.data.token;
  who = user;
  keep(answer.data.visitor, Number(settings.session_duration));
  announcements = answer.data.messages.filter((message) => message.format === "announcement" && !seen.has(message.id));
  pinged = true;
  await look();
  if (mine !== session || !pinged) return;
  if (document.body) greet();
  else document.addEventListener("DOMContentLoaded", guarded(greet), { once: true });
}

const seen = new Set();

function greet() {
  appear();
  configured(settings);
  drawLauncher();
  drawSnippets();
  announceNext();
  const due = waiting;
  waiting = [];
  for (const action of due) guarded(action)();
}

function announceNext() {
  if (settings.hide_notifications || announced || !pinged) return;
  const next = announcements.shift();
  if (next) announce(next);
}

function withdraw() {
  // Not who the page says they are: nothing of anybody's is shown.
  pinged = false;
  startOver();
}

function startOver() {
  conversations = [];
  most = FIRST;
  older = 0;
  announcements = [];
  seen.clear();
  who = null;
  forgetAnswers();
  endAnnouncement(null);
  disappear();
  counted(0);
}

function whenReady(action) {
  if (pinged) appear(); // a page may have thrown away all it held
  if (pinged && host.isConnected) guarded(action)();
  else if (!over) waiting.push(action);
}

// Looking for something new

async function look() {
  if (!pinged || !who) return;
  const mine = session;
  const answer = await ask("GET", most > FIRST ? `${LIST}?most=${most}` : LIST);
  if (mine !== session) return;
  if (answer.status === 401) {
    pinged = Date.now() - visitedAt < 5000; // a session that is over is begun again, though not without end
    if (!pinged) await visit();
    return;
  }
  failures = answer.status === 200 || answer.status === 304 ? 0 : failures + 1;
  if (answer.status !== 200) return;
  conversations = answer.data.conversations;
  older = answer.data.older;
  counted(answer.data.unread_count);
  drawList();
  if (host.isConnected) drawSnippets();
  const shown = view.kind === "thread" && isOpen() && conversations.find((entry) => entry.id === view.id);
  if (shown && (shown.version !== view.version || !shown.read)) await fetchThread(shown.id);
  if (answer.data.expected && !document.hidden && Date.now() - visitedAt > 10000) await visit();
}

async function lookFurther(trouble) {
  const mine = session;
  const had = conversations.length;
  trouble.textContent = "";
  most += FIRST;
  await look();
  if (mine !== session || conversations.length > had) return;
  most -= FIRST;
  trouble.textContent = "This could not be loaded. Try again.";
}

function counted(count) {
  const changed = count !== unread;
  unread = count;
  drawLauncher();
  if (changed) called(hooks.unread, unread);
}

const NOT_LOADED = "This could not be loaded. It will be tried again.";

async function fetchThread(id) {
  const mine = session;
  const answer = await ask("GET", `conversations/${id}`);
  if (mine !== session || view.kind !== "thread" || view.id !== id) return;
  if (answer.status !== 200) {
    trouble.textContent = trouble.textContent || NOT_LOADED;
    return;
  }
  view.version = answer.data.version;
  drawThread(answer.data);
  if (trouble.textContent === NOT_LOADED) trouble.textContent = "";
  const entry = conversations.find((one) => one.id === id);
  if (isOpen() && !document.hidden && entry && !entry.read) {
    entry.read = true;
    counted(Math.max(0, unread - 1));
    await ask("POST", `conversations/${id}/read`, { version: view.version });
    changed();
  }
}

async function sendWords(id, text, files, key) {
  const mine = session;
  let sent = { body: text, key };
  if (files.length) {
    sent = new FormData();
    sent.append("body", text);
    sent.append("key", key);
    for (const file of files) sent.append("images", file, file.name || "image");
  }
  const answer = await ask("POST", id === null ? "conversations" : `conversations/${id}/reply`, sent);
  if (mine !== session) return { status: 0 };
  if (answer.status === 200) {
    who = who || { type: "lead" };
    changed();
    look();
    schedule();
  }
  return answer;
}

async function mark(message, what, facts) {
  seen.add(message);
  await ask("POST", `messages/${message}/${what}`, facts);
  changed();
  if (what !== "clicked") await look();
}

// Other tabs of the same browser look at once.
const tabs = attempt(() => new BroadcastChannel("outbound-messenger"), null);
if (tabs) {
  tabs.onmessage = guarded(() => {
    listTag = null; // what was closed there is closed here, though nothing new was said
    return look();
  });
}

function changed() {
  attempt(() => tabs && tabs.postMessage("changed"));
}

function pause() {
  const idle = Date.now() - activeAt;
  const calm = document.hidden ? 5 * MINUTE : idle > 5 * MINUTE ? MINUTE : isOpen() ? 4000 : 15000;
  const visits = document.hidden || failures ? Infinity : Math.max(1000, visitedAt + VISIT_EVERY - Date.now());
  return Math.min(10 * MINUTE, calm * 2 ** Math.min(failures, 6), visits);
}

function schedule() {
  clearTimeout(timer);
  if (booted) timer = setTimeout(guarded(tick), pause());
}

async function tick() {
  const mine = session;
  const due = Date.now() - visitedAt >= VISIT_EVERY;
  if (!document.hidden && due) await visit();
  else if (!document.hidden || pinged) await look();
  if (mine === session) {
    if (pinged) appear();
    sayTimes();
    schedule();
  }
}

document.addEventListener("visibilitychange", guarded(() => booted && !document.hidden && tick()));
window.addEventListener("online", guarded(() => booted && tick()));
for (const name of ["pointerdown", "keydown", "scroll"]) {
  window.addEventListener(name, () => {
    const slept = Date.now() - activeAt > 5 * MINUTE;
    activeAt = Date.now();
    if (slept && booted) guarded(tick)();
  }, { passive: true, capture: true });
}
document.addEventListener("click", guarded((event) => {
  const selectors = [settings.custom_launcher_selector, settings.widget && settings.widget.activator];
  if (booted && selectors.some((selector) => selector && event.target.closest && event.target.closest(selector))) {
    event.preventDefault();
    whenReady(toggle);
  }
}));

// What the page calls

function isAnother(before, after) {
  if (before.user_id && after.user_id) return String(before.user_id) !== String(after.user_id);
  const address = (settings) => String(settings.email || "").trim().toLowerCase();
  return Boolean(before.user_id || before.email) && (!address(before) || address(before) !== address(after));
}

// How it looks and where it asks is the page's, whoever is logged in.
const OF_THE_PAGE = ("app_id api_base hide_default_launcher custom_launcher_selector alignment vertical_padding " +
  "horizontal_padding session_duration hide_notifications action_color background_color widget").split(" ");

function ofThePage(told) {
  return Object.fromEntries(Object.entries(told).filter(([name]) => OF_THE_PAGE.includes(name)));
}

// What was told of one is not told of another.
function joined(told, given) {
  const both = { ...told, ...given };
  return isAnother(told, both) ? { ...ofThePage(told), ...given } : both;
}

function begin(wanted) {
  if (booted && isAnother(settings, wanted)) COMMANDS.shutdown();
  settings = wanted;
  if (settings.api_base) base = new URL(settings.api_base, location.href).origin;
  booted = true;
  over = false;
  session += 1;
  updates = [];
  schedule();
  return visit();
}

const COMMANDS = {
  boot: (given) => begin(joined(window.outboundSettings || {}, given)),
  update(given) {
    if (!booted) return COMMANDS.boot(given);
    const now = Date.now();
    updates = updates.filter((at) => now - at < UPDATES_WITHIN);
    if (updates.length >= MOST_UPDATES) return complain("update was called more than 20 times in 30 minutes");
    updates.push(now);
    const wanted = joined(settings, given);
    // Nothing of whoever was here is shown to the next one, nor taken for theirs.
    if (isAnother(settings, { ...settings, ...given })) return begin(wanted);
    settings = wanted;
    if (pinged) configured(settings);
    return visit();
  },
  shutdown() {
    session += 1;
    booted = pinged = false;
    over = true;
    clearTimeout(timer);
    waiting = [];
    settings = {};
    startOver();
    forget();
  },
  show: () => whenReady(show),
  hide: () => hide(),
  showMessages: () => whenReady(() => (open(), showList())),
  showNewMessage: (text) => whenReady(() => showThread(null, typeof text === "string" ? text : "")),
  showConversation: (id) => whenReady(() => showThread(String(id))),
  hideNotifications(hidden) {
    settings.hide_notifications = hidden !== false;
    drawSnippets();
    announceNext();
  },
  trackEvent: (name, metadata) => whenReady(async () => {
    const answer = await ask("POST", "events", { event_name: name, metadata: plain(metadata) });
    if (answer.status !== 200 || said(answer)) complain(said(answer) || `the event ${name} was not recorded`);
  }),
  reattach_activator() {}, // clicks are heard wherever they are
  getVisitorId(callback) {
    const id = settings.user_id !== undefined ? settings.user_id : (kept() || "").split(":")[0] || undefined;
    if (typeof callback === "function") callback(id);
    return id;
  },
  onUnreadCountChange(callback) {
    hooks.unread.push(callback);
    called([callback], unread);
  },
  onShow: (callback) => void hooks.show.push(callback),
  onHide: (callback) => void hooks.hide.push(callback),
};

function outbound(command, ...given) {
  const action = Object.prototype.hasOwnProperty.call(COMMANDS, command) && COMMANDS[command];
  if (!action) return complain(`there is no ${command}`);
  const done = guarded(action)(...given);
  return done && typeof done.then === "function" ? undefined : done;
}

const queued = (window.Outbound && window.Outbound.q) || [];
outbound.loaded = true;
window.Outbound = outbound;
if (!queued.length && window.outboundSettings) outbound("boot");
for (const call of queued) outbound(...call);
