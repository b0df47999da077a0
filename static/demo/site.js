// The script of a customer's website. The website's Content Security Policy forbids inline scripts.
(function () {
  "use strict";
  const calls = (window.Outbound = function () {
    calls.q.push(arguments);
  });
  calls.q = [];

  const user = JSON.parse(document.getElementById("who").textContent);
  window.Outbound("boot", { ...user, action_color: "#1f6b4a" });

  document.addEventListener("DOMContentLoaded", () => {
    const on = (id, event, action) => document.getElementById(id)?.addEventListener(event, action);
    on("help", "click", () => window.Outbound("show"));
    on("ask", "click", () => window.Outbound("showNewMessage", ""));
    // The browser forgets this user.
    on("log-out", "submit", () => window.Outbound("shutdown"));
    for (const button of document.querySelectorAll("[data-event]")) {
      button.addEventListener("click", () => {
        window.Outbound("trackEvent", button.dataset.event);
        document.getElementById("done").textContent = `Outbound received the event “${button.dataset.event}”.`;
      });
    }
  });
})();
