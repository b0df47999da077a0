// The launcher, the snippets above it, and the panel with the list and the thread.

const host = document.createElement("outbound-messenger");
const shadow = host.attachShadow({ mode: "open" });
const live = make("div", { class: "unseen", role: "status", "aria-live": "polite" });
const snippets = make("div", { class: "snippets" });
const badge = make("span", { class: "badge", hidden: true });
const launcher = make(
  "button",
  { type: "button", class: "launcher", "aria-expanded": "false", onclick: () => toggle() },
  icon("chat"),
  icon("down"),
  badge,
);
const heading = make("h2", { id: "heading" });
const back = button("All messages", "back", () => showList(true), { class: "plain" });
const list = make("div", { class: "list" });
const log = make("div", { class: "log", role: "log", tabindex: "0", "aria-label": "Conversation" });
const words = make("textarea", { rows: "1", "aria-label": "Write a message", placeholder: "Write a message…", maxlength: "10000", dir: "auto" });
const picker = make("input", { type: "file", accept: "image/png,image/jpeg,image/gif,image/webp", multiple: true, hidden: true });
const chosen = make("div", { class: "chosen" });
const trouble = make("p", { class: "trouble", role: "alert" });
const send = make("button", { type: "submit", class: "send", "aria-label": "Send", title: "Send" }, icon("send"));
const composer = make(
  "form",
  { class: "composer", onsubmit: submitted },
  chosen,
  trouble,
  make("div", { class: "row" }, picker, button("Add an image", "image", () => picker.click(), { class: "plain" }), words, send),
);
const panel = make(
  "section",
  { class: "panel", role: "dialog", "aria-labelledby": "heading", hidden: true },
  make("div", { class: "head" }, back, heading, button("Close", "close", () => hide(), { class: "plain" })),
  list,
  log,
  composer,
);
// In the top layer, over whatever the page puts on top and however it moves what it holds.
const outer = make("div", { class: "outer", role: "region", "aria-label": "Messenger", lang: "en", popover: "manual" }, live, snippets, panel, launcher);
shadow.append(outer);
// What is typed here is no shortcut of the page's.
for (const name of ["keydown", "keyup", "keypress"]) outer.addEventListener(name, (event) => event.stopPropagation());
const wholeScreen = matchMedia("(max-width: 480px)");
const modal = () => panel.setAttribute("aria-modal", String(wholeScreen.matches));
attempt(() => wholeScreen.addEventListener("change", modal));
modal();
panel.addEventListener("keydown", guarded((event) => {
  if (event.key === "Escape") hide();
  // Where it is the whole screen the focus is never behind it.
  if (event.key === "Tab" && wholeScreen.matches) keepWithin(event, panel);
}));
words.addEventListener("keydown", guarded((event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
}));
words.addEventListener("input", guarded(fit));
words.addEventListener("paste", guarded((event) => choose(event.clipboardData.files)));
picker.addEventListener("change", guarded(() => {
  choose(picker.files);
  picker.value = "";
}));

dressed();

function dressed() {
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    shadow.adoptedStyleSheets = [sheet];
  } catch (error) {
    shadow.prepend(make("style", {}, STYLE)); // browsers before 2023
  }
}

let view = { kind: "list" }; // or {kind: "thread", id, parts, box}: id null for one that is just being begun
let images = [];
// By conversation: what is written there, and what of it is on its way or could not be sent.
const boxes = new Map();

function boxOf(id) {
  if (!boxes.has(id)) boxes.set(id, { id, draft: "", pending: [] });
  return boxes.get(id);
}

function unsent(id) {
  return boxes.has(id) ? boxes.get(id).pending.filter((letter) => letter.failed) : [];
}

function appear() {
  if (!document.body) return;
  if (!host.isConnected) document.body.append(host);
  // What leaves the page for a moment leaves the top layer for good.
  attempt(() => outer.matches(":popover-open") || outer.showPopover());
  if (announced) attempt(() => announcement.matches(":modal") || (announcement.close(), announcement.showModal()));
}

// Where the page moves us, no event says so, only this.
attempt(() => customElements.define(host.localName, class extends HTMLElement {
  connectedCallback() {
    if (this === host) guarded(appear)();
  }
}));

function sayTimes() {
  for (const time of shadow.querySelectorAll("time")) time.textContent = since(new Date(time.dateTime));
}

function disappear() {
  host.remove();
  panel.hidden = true;
  outer.classList.remove("open");
  view = { kind: "list" };
  for (const box of boxes.values()) box.over = true;
  boxes.clear();
  images = [];
  for (const emptied of [list, log, snippets, chosen, live, trouble]) emptied.replaceChildren();
  words.value = "";
}

// How it looks where the settings say so.

function configured(settings) {
  const look = outer.style;
  const color = settings.action_color || settings.background_color;
  outer.classList.toggle("left", settings.alignment === "left");
  launcher.hidden = Boolean(settings.hide_default_launcher);
  for (const [name, given] of [["--away-x", settings.horizontal_padding], ["--away-y", settings.vertical_padding]]) {
    const pixels = Number(given);
    if (given !== undefined && pixels >= 0) look.setProperty(name, `${Math.min(pixels, 1000)}px`);
    else look.removeProperty(name);
  }
  look.removeProperty("--action");
  look.removeProperty("--on-action");
  if (color && CSS.supports("color", color)) {
    look.setProperty("--action", color);
    look.setProperty("--on-action", readableOn(color));
  }
}

function readableOn(color) {
  const probe = make("span");
  probe.style.color = color;
  outer.append(probe);
  const channels = (getComputedStyle(probe).color.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  probe.remove();
  const light = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2];
  return light > 0.179 ? "#000" : "#fff";
}

// Open and closed

function isOpen() {
  return !panel.hidden;
}

let opener = null; // what of the page had the focus before

function open() {
  appear();
  if (isOpen()) return;
  const had = document.activeElement;
  opener = had === host || had === document.body ? null : had;
  panel.hidden = false;
  outer.classList.add("open");
  drawSnippets();
  drawLauncher();
  schedule();
  called(hooks.show);
}

function hide() {
  if (!isOpen()) return;
  const within = shadow.activeElement && panel.contains(shadow.activeElement);
  keepDraft();
  panel.hidden = true;
  outer.classList.remove("open");
  drawLauncher();
  attempt(() => within && opener && opener.focus());
  // It may be gone by now, or hidden.
  if (within && (!opener || document.activeElement !== opener)) launcher.focus();
  opener = null;
  called(hooks.hide);
}

function toggle() {
  if (isOpen()) hide();
  else show();
}

function show() {
  const news = conversations.filter((entry) => !entry.read);
  open();
  if (news.length === 1) showThread(news[0].id);
  else if (view.kind === "thread" && (view.id !== null || view.box.pending.length)) showThread(view.id);
  else if (conversations.length) showList();
  else showThread(null);
}

function drawLauncher() {
  const lost = [...boxes.keys()].flatMap(unsent).length;
  const count = (unread ? `, ${unread} unread` : "") + (lost ? `, ${lost} not sent` : "");
  const label = isOpen() ? "Close messages" : `Open messages${count}`;
  launcher.setAttribute("aria-label", label);
  launcher.setAttribute("aria-expanded", String(isOpen()));
  badge.textContent = lost ? "!" : unread > 9 ? "9+" : String(unread);
  badge.hidden = !(unread || lost) || isOpen();
}

function drawSnippets() {
  const silent = isOpen() || settings.hide_notifications;
  const shown = silent ? [] : conversations.filter((entry) => !entry.read && !wasClosed(entry)).slice(0, 2);
  const had = new Set([...snippets.children].map((card) => card.dataset.key));
  snippets.replaceChildren(
    ...shown.map((entry) =>
      make(
        "article",
        { class: had.has(keyOf(entry)) ? "snippet" : "snippet new", "data-key": keyOf(entry), "aria-label": `Message from ${named(entry.from)}` },
        make(
          "button",
          { type: "button", class: "opens", onclick: () => (open(), showThread(entry.id)) },
          avatar(entry.from),
          make("span", { class: "text" }, make("strong", {}, named(entry.from)), make("span", { dir: "auto" }, entry.preview)),
        ),
        button("Dismiss", "close", () => dismiss(entry), { class: "plain" }),
      ),
    ),
  );
  for (const entry of shown) {
    if (!had.has(keyOf(entry))) live.textContent = `New message from ${named(entry.from)}: ${entry.preview}`;
  }
}

function keyOf(entry) {
  return `${entry.id}-${entry.last_at}`;
}

function wasClosed(entry) {
  // An announcement is a dialog, until somebody answers.
  const isBare = entry.message && !entry.answered;
  return closed.has(keyOf(entry)) || (isBare && (entry.dismissed || entry.format === "announcement"));
}

function dismiss(entry) {
  close(keyOf(entry));
  drawSnippets();
  if (!launcher.hidden) launcher.focus();
  if (entry.message && !entry.answered) mark(entry.message, "dismissed");
}

// The list

function showList(focus) {
  keepDraft();
  view = { kind: "list" };
  heading.textContent = "Messages";
  log.hidden = composer.hidden = true;
  list.hidden = false;
  drawList();
  if (focus !== false) attempt(() => list.querySelector("button").focus());
}

function drawBack() {
  back.hidden = view.kind === "list" || !conversations.length;
}

function drawList() {
  drawBack();
  if (view.kind !== "list") return;
  const had = shadow.activeElement;
  const at = [...list.querySelectorAll("button")].indexOf(had);
  const trouble = make("p", { class: "trouble", role: "alert" });
  list.replaceChildren(
    make(
      "ul",
      {},
      ...conversations.map((entry) =>
        make(
          "li",
          {},
          make(
            "button",
            { type: "button", class: entry.read ? "entry" : "entry unread", "data-id": entry.id, onclick: () => showThread(entry.id) },
            avatar(entry.from),
            make(
              "span",
              { class: "text" },
              make("strong", {}, named(entry.from), entry.read ? null : make("span", { class: "unseen" }, ", unread")),
              entry.subject ? make("span", { class: "subject", dir: "auto" }, entry.subject) : null,
              make("span", { class: "preview", dir: "auto" }, previewOf(entry)),
            ),
            ago(entry.last_at),
          ),
        ),
      ),
      older ? make("li", {}, trouble, make("button", { type: "button", class: "older", onclick: () => lookFurther(trouble) }, `Show older (${older})`)) : null,
    ),
    make("button", { type: "button", class: "begin", "data-id": "new", onclick: () => showThread(null) }, unsent(null).length ? "New message, not sent" : "New message"),
  );
  // Where it is gone, what stands there now has the focus: after the last of the list, the first of the older ones.
  const now = [...list.querySelectorAll("button")];
  if (at >= 0) (now.find((one) => one.dataset.id && one.dataset.id === had.dataset.id) || now[at] || now[0]).focus();
}

function previewOf(entry) {
  const [lost] = unsent(entry.id);
  return lost ? `Not sent: ${lost.said}` : (entry.by_customer ? "You: " : "") + entry.preview;
}

// A thread

function showThread(id, written) {
  open();
  keepDraft();
  const entry = conversations.find((one) => one.id === id);
  view = { kind: "thread", id, parts: [], box: boxOf(id) };
  heading.textContent = entry ? named(entry.from) : "New message";
  drawBack();
  list.hidden = true;
  log.hidden = composer.hidden = false;
  log.replaceChildren();
  atEnd = true;
  if (id === null) log.append(make("p", { class: "hello" }, "Ask us anything. You will find our answer here."));
  log.append(...view.box.pending.map((letter) => letter.shown));
  trouble.textContent = "";
  words.value = written || view.box.draft;
  fit();
  words.focus();
  if (id !== null) fetchThread(id);
}

function keepDraft() {
  if (view.kind === "thread") view.box.draft = words.value;
}

function drawThread(thread) {
  if (view.kind !== "thread" || view.id !== thread.id) return;
  const first = !view.parts.length;
  const known = new Set(view.parts);
  heading.textContent = named(thread.from);
  const next = log.querySelector(".pending");
  for (const part of thread.parts) {
    if (known.has(part.id)) continue;
    const clicked = part.id === "opening" && thread.message ? (link) => mark(thread.message, "clicked", { link }) : null;
    log.insertBefore(drawPart(part, clicked), next);
  }
  view.parts = thread.parts.map((part) => part.id);
  askEmail(thread);
  if (first || atEnd) toEnd();
}

// Whoever wrote without an address is asked for one, so that an answer finds them when they are gone.
function askEmail(thread) {
  const asked = log.querySelector(".ask");
  const wanted = thread.asks_email && thread.parts.some((part) => part.by_customer);
  if (!wanted) return attempt(() => asked && asked.remove());
  const next = log.querySelector(".pending");
  if (asked) {
    const focused = asked.contains(shadow.activeElement) && shadow.activeElement;
    if (asked.nextElementSibling !== next) log.insertBefore(asked, next);
    return focused && focused.focus();
  }
  const field = make("input", { type: "email", id: "email", required: true, autocomplete: "email", placeholder: "you@example.com", maxlength: "254" });
  const wrong = make("p", { class: "trouble", role: "alert" });
  const form = make(
    "form",
    { class: "ask", onsubmit: (event) => (event.preventDefault(), leaveEmail(form, field.value.trim(), wrong)) },
    make("label", { for: "email" }, "Where can we answer you when you have left?"),
    make("div", { class: "row" }, field, make("button", { type: "submit" }, "Leave my email")),
    wrong,
  );
  return log.insertBefore(form, next);
}

async function leaveEmail(form, email, wrong) {
  wrong.textContent = "";
  const answer = await ask("POST", "email", { email });
  if (answer.status === 200) {
    form.replaceWith(make("p", { class: "noted", role: "status" }, `We answer here, and to ${answer.data.email}.`));
    toEnd();
    words.focus();
  } else {
    wrong.textContent = said(answer) || "This could not be sent. Try again.";
  }
}

function drawPart(part, clicked) {
  const own = part.by_customer;
  const who = own ? make("span", { class: "unseen" }, "You said ") : make("span", { class: "who" }, named(part.from));
  const title = part.subject ? make("h3", { class: "title" }, part.subject) : null;
  return make(
    "article",
    { class: own ? "part own" : "part" },
    own ? null : avatar(part.from),
    make("div", { class: "bubble", dir: "auto" }, own ? who : null, title, content(part, clicked)),
    make("p", { class: "meta" }, own ? null : who, own ? null : " · ", ago(part.created_at)),
  );
}

let atEnd = true;
log.addEventListener("scroll", () => (atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80), { passive: true });
// Whoever reads the end goes on reading it, while pictures arrive and the composer grows.
const sizes = new ResizeObserver(() => atEnd && toEnd());
sizes.observe(log);

function toEnd() {
  atEnd = true;
  log.scrollTop = log.scrollHeight;
  for (const picture of log.querySelectorAll("img")) if (!picture.complete) sizes.observe(picture);
}

// The composer

function fit() {
  words.style.height = "auto";
  words.style.height = `${Math.min(words.scrollHeight, 140)}px`;
}

function choose(files) {
  if (files.length) trouble.textContent = "";
  for (const file of files) {
    if (!/^image\/(png|jpeg|gif|webp)$/.test(file.type)) trouble.textContent = `${file.name} is no PNG, JPEG, GIF or WebP image.`;
    else if (images.length >= 5) trouble.textContent = "At most 5 images go with one message.";
    else if (file.size > 5 * 1024 * 1024) trouble.textContent = `${file.name} is larger than 5 MB.`;
    else images.push(file);
  }
  drawImages();
}

function drawImages() {
  chosen.replaceChildren(
    ...images.map((file) =>
      make(
        "span",
        { class: "chip" },
        file.name || "Image",
        button(`Remove ${file.name || "image"}`, "close", () => {
          images = images.filter((one) => one !== file);
          drawImages();
          words.focus();
        }, { class: "plain" }),
      ),
    ),
  );
}

function submitted(event) {
  event.preventDefault();
  const text = words.value.trim();
  if (!text && !images.length) return null;
  const files = images;
  images = [];
  words.value = "";
  trouble.textContent = "";
  drawImages();
  fit();
  return deliver(view.box, text, files);
}

const REFUSED = [400, 413, 429];

// By its key what is sent again, because no answer came, is said once.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function deliver(to, text, files, key = newKey()) {
  const state = make("p", { class: "meta" }, "Sending…");
  const names = files.map((file) => file.name || "Image").join(", ");
  const shown = make(
    "article",
    { class: "part own pending" },
    make("div", { class: "bubble", dir: "auto" }, make("div", { class: "body" }, make("p", { class: "typed" }, text || names))),
    state,
  );
  const letter = { shown, said: text || names, failed: false };
  to.pending.push(letter);
  if (to === view.box) {
    log.append(shown);
    toEnd();
  }
  // What follows the words that begin a conversation waits until there is one to add it to.
  const before = to.sending;
  const sending = (async () => {
    await before;
    return sendWords(to.id, text, files, key);
  })();
  to.sending = sending;
  const answer = await sending;
  if (to.over) return; // somebody else is here by now
  const settled = () => {
    shown.remove();
    to.pending.splice(to.pending.indexOf(letter), 1);
    drawLauncher();
  };
  const takenBack = () => {
    settled();
    words.value = [text, words.value].filter(Boolean).join("\n");
    choose(files);
    fit();
  };
  const refused = REFUSED.includes(answer.status);
  const isSeen = to === view.box && isOpen();
  if (answer.status === 200) {
    settled();
    begun(to, answer.data.id);
    if (to === view.box) {
      for (const hello of log.querySelectorAll(".hello")) hello.remove();
      drawThread(answer.data);
      toEnd();
    }
  } else if (refused && isSeen && !words.value && !images.length) {
    // Sent again as it is it would be refused again: it is theirs to change.
    takenBack();
    trouble.textContent = `Not sent. ${said(answer)}`;
  } else {
    letter.failed = true;
    const [label, action] = refused ? ["Edit", takenBack] : ["Try again", () => (settled(), deliver(to, text, files, key))];
    state.replaceChildren(
      make("span", { role: "alert" }, `Not sent. ${refused ? said(answer) : ""} `),
      make("button", { type: "button", class: "again", onclick: () => (words.focus(), action()) }, label),
    );
    if (!isSeen) live.textContent = `Not sent: ${letter.said}`;
    drawLauncher();
    drawList();
  }
}

function begun(box, id) {
  const other = boxes.get(id); // of whoever opened it from the list before we knew that it is this one
  if (other && other !== box) {
    box.pending.push(...other.pending);
    other.pending = box.pending;
  }
  if (boxes.get(box.id) === box) boxes.delete(box.id);
  boxes.set(id, box);
  box.id = id;
  if (view.box === box) view.id = id;
  else if (view.id === id) view.box = box;
}
