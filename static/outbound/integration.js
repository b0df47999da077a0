// Copies what is shown, and has a form sent once however often its button is clicked.
(function () {
  "use strict";

  // Only pages over https have the clipboard; elsewhere the text is marked and copied the older way.
  async function copy(text, source) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }

  async function copied(button) {
    const source = document.getElementById(button.dataset.copy);
    let done = false;
    try {
      done = await copy(source.textContent, source);
    } catch {
      done = false;
    }
    const words = done ? "Copied" : "Mark it and copy it by hand";
    const label = button.lastChild;
    const before = label.textContent;
    label.textContent = words;
    document.getElementById("copied").textContent = words;
    window.setTimeout(() => { label.textContent = before; }, 2000);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copied(button);
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-once]")) return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "1";
  });

  // Back in the browser's history the form is to be sent anew.
  window.addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-once]").forEach((form) => { delete form.dataset.sent; });
  });
})();
