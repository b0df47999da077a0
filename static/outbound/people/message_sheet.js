/* “Send a message” as a sheet over the page: a dialog with the form's own page in a frame, so that the form has its own editor,
   autosave and session notice. Without this script the links open that page. */
import { morph } from "../console/morph.js";

const NAME = "Send a message";
const FAILED = "The form did not open. You may be logged out, or have no connection.";

let dialog = null;
let frame = null;
let opener = null;
let address = "";

const create = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const formPage = () => frame?.contentDocument?.querySelector("[data-message-form]") && frame.contentDocument;

function build() {
  dialog = create("dialog", { className: "ob-message-sheet" });
  dialog.setAttribute("aria-label", NAME);
  /* Escape with the focus in the frame, and the form's buttons, are events of the form's page. */
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); askToClose(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("[data-close]")) askToClose(); });
  dialog.addEventListener("close", () => {
    /* The form's page sends its last text when it goes. */
    dialog.replaceChildren();
    frame = null;
    const place = opener?.isConnected ? opener : document.querySelector(`a[data-message-sheet][href="${CSS.escape(address)}"]`);
    place?.focus();
  });
  document.body.append(dialog);
}

function open(url) {
  if (!dialog) build();
  [opener, address] = [document.activeElement, url];
  frame = create("iframe", { title: NAME, src: `${url}?sheet=1` });
  frame.addEventListener("load", showLoaded);
  frame.addEventListener("close-sheet", () => dialog.close());
  dialog.replaceChildren(create("p", { className: "ob-message-sheet-opens", textContent: "Opening …" }), frame);
  dialog.toggleAttribute("data-loaded", false);
  dialog.showModal();
}

function showLoaded() {
  const sent = frame.contentDocument?.querySelector("[data-sent]");
  if (sent) return close(sent.textContent);
  if (!formPage()) return showFailure();
  dialog.toggleAttribute("data-loaded", true);
  frame.contentWindow.focus();
  return frame.contentDocument.dispatchEvent(new CustomEvent("sheet-shown"));
}

function showFailure() {
  const line = create("p", { className: "ob-notice ob-bad", textContent: `${FAILED} ` });
  line.setAttribute("role", "alert");
  const button = create("button", { type: "button", className: "ob-button", textContent: "Close" });
  button.dataset.close = "";
  line.append(create("a", { href: address, textContent: "Open it as a page" }));
  const body = create("div", { className: "ob-message-sheet-failure" });
  body.append(line, button);
  dialog.replaceChildren(body);
  button.focus();
}

function askToClose() {
  if (formPage()) frame.contentDocument.dispatchEvent(new CustomEvent("close-asked"));
  else dialog.close();
}

function close(text) {
  dialog.close();
  say(text);
  refreshProfile();
}

/* The place is there before its text, so that screen readers announce it. */
function say(text) {
  const place = document.querySelector(".ob-toast") ?? document.body.appendChild(create("p", { className: "ob-toast" }));
  place.setAttribute("role", "status");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; });
}

/* The profile lists the new message. */
async function refreshProfile() {
  const profile = document.querySelector(".ob-profile");
  if (!profile) return;
  const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
  const wanted = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(".ob-profile");
  if (wanted) morph(profile, wanted);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-message-sheet]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(link.getAttribute("href"));
});
/* The palette opens it too. */
document.addEventListener("open-message-sheet", (event) => {
  event.preventDefault();
  open(event.detail);
});
