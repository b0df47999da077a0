/* The sheet of keyboard shortcuts, and whether single keys are shortcuts (WCAG 2.1.4): they never are while typing. */
const KEY = "outbound-single-keys-off";
const FIELDS = "input, textarea, select, [contenteditable], trix-editor";

const areOn = () => { try { return localStorage.getItem(KEY) !== "1"; } catch { return true; } };
const setOn = (on) => { try { localStorage.setItem(KEY, on ? "0" : "1"); } catch { /* Storage is blocked. */ } };

/* Whether a key event is this single key, pressed outside fields by a teammate who has single keys on. */
export const isSingleKey = (event, key) =>
  event.key === key && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest?.(FIELDS) && areOn();

const dialog = document.getElementById("shortcuts");

if (dialog) {
  const setting = dialog.querySelector("input[type=checkbox]");
  const open = () => {
    setting.checked = areOn();
    dialog.showModal();
  };
  setting.addEventListener("change", () => setOn(setting.checked));
  dialog.addEventListener("click", ({ target }) => { if (target === dialog || target.closest("[data-close]")) dialog.close(); });
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-shortcuts]")) return;
    document.querySelector("dialog[open]")?.close();
    open();
  });
  document.addEventListener("keydown", (event) => {
    if (!isSingleKey(event, "?") || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    open();
  });
}
if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  document.querySelectorAll("kbd").forEach((key) => { key.textContent = key.textContent.replace("Ctrl", "⌘"); });
}
