/* The count beside a form is marked as outdated from a change until the new count has arrived. */
const OUTDATED = "Outdated. Counting again …";
const FAILED = "Outdated. The people could not be counted again: check your connection.";

export const markCounts = () => {
  const counted = document.getElementById("summary");
  if (!counted) return;
  let changes = 0;
  let asked = 0;
  const show = (text) => {
    counted.querySelector(".ob-count-state")?.remove();
    if (text) {
      const state = Object.assign(document.createElement("p"), { className: "ob-count-state", textContent: text });
      state.setAttribute("role", "status");
      const count = counted.querySelector(".ob-count");
      if (count) count.after(state);
      else counted.firstElementChild?.append(state);
    }
    document.body.toggleAttribute("data-count-outdated", Boolean(text));
  };
  const isCount = (event) => event.detail.target === counted;

  document.body.addEventListener("composer-changed", () => {
    changes += 1;
    show(OUTDATED);
  });
  document.body.addEventListener("htmx:beforeRequest", (event) => { if (isCount(event)) asked = changes; });
  document.body.addEventListener("htmx:afterSwap", (event) => { if (isCount(event)) show(asked === changes ? "" : OUTDATED); });
  ["htmx:sendError", "htmx:responseError", "htmx:timeout"].forEach((name) => {
    document.body.addEventListener(name, (event) => { if (isCount(event)) show(FAILED); });
  });
};
