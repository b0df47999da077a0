/* The customer details beside a conversation: open on wide screens unless the teammate closed them there. */
const KEY = "outbound-inbox-details-closed";
const wide = matchMedia("(min-width: 1280px)");

const isClosed = () => { try { return localStorage.getItem(KEY) === "1"; } catch { return false; } };

export function openDetails() {
  const details = document.getElementById("about");
  if (!details) return;
  if (wide.matches && !isClosed()) details.open = true;
  details.querySelector("summary").addEventListener("click", () => {
    if (!wide.matches) return;
    /* The click toggles it after this listener. */
    try { localStorage.setItem(KEY, details.open ? "1" : "0"); } catch { /* Storage is blocked. */ }
  });
}
