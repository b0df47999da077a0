// What a customer's own page does. It stands in a file of its own, as its Content Security Policy asks.
(function () {
  "use strict";
  const calls = (window.Outbound = function () {
    calls.q.push(arguments);
  });
  calls.q = [];

  const who = JSON.parse(document.getElementById("who").textContent);
  window.Outbound("boot", { ...who, action_color: "#1f6b4a" });

  document.addEventListener("DOMContentLoaded", () => {
    const on = (id, event, action) => document.getElementById(id)?.addEventListener(event, action);
    on("help", "click", () => window.Outbound("show"));
    on("ask", "click", () => window.Outbound("showNewMessage", ""));
    // Nothing of who was here stays for the next one.
    on("log-out", "submit", () => window.Outbound("shutdown"));
    for (const button of document.querySelectorAll("[data-event]")) {
      button.addEventListener("click", () => {
        window.Outbound("trackEvent", button.dataset.event);
        document.getElementById("done").textContent = `Outbound was told: ${button.dataset.event}`;
      });
    }
  });
})();
