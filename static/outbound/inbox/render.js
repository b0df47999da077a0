/* Shows news of the inbox on the page, without disturbing the focus, the position or the typed text. */
import { findById, isAtBottom, pageData, scrollToBottom } from "./dom.js";

/* The number of unread conversations, in the sidebar and in the page's title. */
export function showUnreadCount() {
  const unread = Number(findById("inbox").querySelector("[data-unread]")?.dataset.unread ?? 0);
  document.querySelectorAll("[data-counted=inbox]").forEach((badge) => {
    badge.firstElementChild.textContent = unread > 999 ? "999+" : unread;
    badge.hidden = !unread;
  });
  document.title = document.title.replace(/^\(\d+\) /, "");
  if (unread) document.title = `(${unread}) ${document.title.trim()}`;
}

function showList(news) {
  const list = findById("inbox-list");
  const newList = findById("inbox-list", news);
  if (!list || !newList || list.innerHTML === newList.innerHTML) return;
  const top = findById("inbox-rows")?.scrollTop ?? 0;
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  list.innerHTML = newList.innerHTML;
  if (findById("inbox-rows")) findById("inbox-rows").scrollTop = top;
  if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  showUnreadCount();
}

function showBar(news) {
  const bar = findById("thread-bar");
  const newBar = findById("thread-bar", news);
  if (!bar || !newBar || bar.contains(document.activeElement) || bar.querySelector("details[open]")) return;
  bar.innerHTML = newBar.innerHTML;
}

/* A copy of a part as the server sends it: with its folds closed. */
function closedCopy(item) {
  const copy = item.cloneNode(true);
  copy.querySelectorAll("details[open]").forEach((fold) => { fold.open = false; });
  return copy;
}

function announcePart(item) {
  const sender = item.querySelector(".ob-part-who")?.textContent ?? "";
  const body = item.querySelector(".ob-part-body")?.cloneNode(true);
  body?.querySelector(".ob-fold")?.remove();
  const text = body?.textContent.trim() ?? "";
  findById("inbox-said").textContent = `${sender}: ${text}`;
}

/* Show changed and new parts of the conversation; return whether there are new ones. */
function showParts(news) {
  const numberOf = (item) => Number(item.id.replace("part-", "")) || 0;
  const parts = findById("thread-parts");
  const wasAtBottom = isAtBottom();
  const last = Math.max(0, ...[...parts.children].map(numberOf));
  const added = [...findById("thread-parts", news).children].filter((item) => {
    const old = document.getElementById(item.id);
    if (old && closedCopy(old).innerHTML !== item.innerHTML && !old.contains(document.activeElement)) old.innerHTML = item.innerHTML;
    return !old && numberOf(item) > last;
  });
  if (!added.length) return false;
  parts.append(...added);
  /* The forms name the last part on the page: the server closes nothing if there is a newer one. */
  const newest = Math.max(last, ...added.map(numberOf));
  document.querySelectorAll("input[name=upto]").forEach((field) => { field.value = newest; });
  if (wasAtBottom) scrollToBottom();
  const spoken = added.filter((item) => item.classList.contains("ob-part")).at(-1);
  if (spoken) announcePart(spoken);
  return true;
}

/* Show news, a parsed document; return whether the open conversation has new parts. */
export function showNews(news) {
  showList(news);
  if (!pageData().conversation || !findById("thread-parts", news)) return false;
  showBar(news);
  const hasNewParts = showParts(news);
  findById("thread-read").textContent = findById("thread-read", news)?.textContent ?? "";
  return hasNewParts;
}

export function showTrouble(text) {
  const line = findById("inbox-trouble");
  line.textContent = text;
  line.hidden = !text;
}
