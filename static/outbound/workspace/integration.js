/* Buttons that copy a text, and forms that are sent once however often their button is clicked. */

const LABEL_TIME = 2000; // milliseconds for which the button shows the result

/* Only pages over https have the clipboard; elsewhere the text is selected and copied by a command. */
async function copyText(source) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  }
  const range = document.createRange();
  range.selectNodeContents(source);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  return document.execCommand("copy");
}

async function pressCopyButton(button) {
  const isCopied = await copyText(document.getElementById(button.dataset.copy)).catch(() => false);
  const result = isCopied ? "Copied" : "Select the text and copy it yourself";
  const label = button.lastChild;
  button.dataset.label ??= label.textContent;
  label.textContent = result;
  document.getElementById("copied").textContent = result;
  setTimeout(() => { label.textContent = button.dataset.label; }, LABEL_TIME);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) pressCopyButton(button);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-once]")) return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});
/* After the browser's back button the form can be sent again. */
window.addEventListener("pageshow", () => {
  document.querySelectorAll("form[data-once]").forEach((form) => { delete form.dataset.sent; });
});
