/* The data of the messenger in the preview's frame: fixed answers instead of requests (composer/messenger.html). A classic
   script, because it runs before the messenger; the frame has no origin, so it cannot load modules. */
(function () {
  "use strict";

  const answers = JSON.parse(document.getElementById("answers").textContent);
  const refusal = { errors: [{ message: "This is a preview. Nothing is sent." }] };
  let drawn = 0;

  window.fetch = async (address, { method }) => {
    const path = new URL(address).pathname.split("/messenger/")[1];
    const isSent = method === "POST" && /^conversations(\/1\/reply)?$/.test(path);
    const data = isSent ? refusal : answers[path] || {};
    /* The frame is hidden while the messenger is drawn: a dialog that opens would take the focus from the editor. */
    clearTimeout(drawn);
    drawn = setTimeout(() => parent.postMessage("drawn", "*"), 100);
    return { ok: !isSent, status: isSent ? 400 : 200, headers: new Headers(), json: async () => data };
  };
  /* Until someone uses the frame, the messenger takes no focus either. */
  const { focus } = HTMLElement.prototype;
  HTMLElement.prototype.focus = () => {};
  const allowFocus = () => { HTMLElement.prototype.focus = focus; };
  for (const name of ["pointerdown", "keydown"]) window.addEventListener(name, allowFocus, { capture: true, once: true });
  window.outboundSettings = {};
  window.Outbound = { q: answers.ping.messages[0].format === "announcement" ? [] : [["showConversation", "1"]] };
})();
