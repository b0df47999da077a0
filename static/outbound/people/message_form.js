/* The form of “Send a message”: focus in the text, and the way back to the page below if it is a sheet (message_sheet.js). */
import { hasTypedText } from "../console/autosave.js";

const QUESTION = "Close without sending? Your text is kept, and is here when you write to this person again.";
const form = document.querySelector("[data-message-form]");
const sheet = form.hasAttribute("data-in-sheet") ? window.frameElement : null;

function focusText() {
  const wrong = form.querySelector(".errors");
  const place = wrong ?? form.querySelector("#message-text");
  const fields = [...place.querySelectorAll("trix-editor, textarea, input:not([type=hidden], [type=file]), select")];
  fields.find((field) => field.offsetParent)?.focus();
}

function askToClose() {
  if (!hasTypedText() || window.confirm(QUESTION)) sheet.dispatchEvent(new CustomEvent("close-sheet"));
}

/* Alpine shows the page in a microtask after it has started. */
document.addEventListener("alpine:initialized", () => setTimeout(focusText));
if (sheet) {
  document.addEventListener("sheet-shown", focusText);
  document.addEventListener("close-asked", askToClose);
  form.querySelectorAll("[data-close]").forEach((one) => one.addEventListener("click", (event) => {
    event.preventDefault();
    askToClose();
  }));
  /* The menus of the form close by Escape themselves. */
  let isMenuOpen = false;
  const hasOpenMenu = () => [...form.querySelectorAll(".ob-popover, .trix-dialog")].some((one) => one.offsetParent);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") isMenuOpen = hasOpenMenu(); }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !isMenuOpen && !event.isComposing) askToClose();
  });
}
