/* Menus and small forms that a button opens: they close on a click elsewhere and on Escape. */
document.addEventListener("click", (event) => {
  document.querySelectorAll(".ob-drop[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector(".ob-drop[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
/* This event does not bubble. */
document.addEventListener("toggle", ({ target }) => {
  if (target.matches?.(".ob-drop[open]")) target.querySelector("[data-first]")?.focus();
}, true);
