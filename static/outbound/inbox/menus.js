/* The menus above a conversation close on a click elsewhere and on Escape. */
export function closeMenus() {
  document.addEventListener("click", (event) => {
    document.querySelectorAll(".ob-drop[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector(".ob-drop[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
