// Announcements: dialogs over the page, one at a time.
(function (messenger) {
  "use strict";

  const { state, attempt, guarded, createElement, createIconButton, createAvatar, createBody, senderName } = messenger;
  const OPENED_AFTER = 1000; // milliseconds on a visible page until an announcement counts as opened
  const dialog = createElement("dialog", { class: "announcement" });
  let openedTimer = 0;

  messenger.outer.append(dialog);
  dialog.addEventListener("cancel", guarded((event) => {
    event.preventDefault();
    endAnnouncement("dismissed");
  }));
  dialog.addEventListener("keydown", guarded((event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      endAnnouncement("dismissed");
    }
    if (event.key === "Tab") messenger.trapFocus(event, dialog);
  }));
  dialog.addEventListener("click", guarded((event) => event.target === dialog && endAnnouncement("dismissed")));
  document.addEventListener("visibilitychange", guarded(startOpenedTimer));

  function announceNext() {
    if (state.settings.hide_notifications || state.announced || !state.visited) return;
    const next = state.announcements.shift();
    if (next) announce(next);
  }

  function announce(message) {
    messenger.attachMessenger();
    state.announced = message;
    const title = message.subject ? createElement("h2", { id: "title", class: "title", tabindex: "-1", dir: "auto" }, message.subject) : null;
    const sender = createElement(title ? "p" : "h2", { id: "announcer", tabindex: "-1", class: title && "from" }, senderName(message.from));
    const onLinkClick = (link) => messenger.reportMessage(message.id, "clicked", { link });
    dialog.setAttribute("aria-labelledby", title ? "title" : "announcer");
    dialog.replaceChildren(
      createElement(
        "div",
        { class: "sheet" },
        createElement("div", { class: "head" }, createAvatar(message.from), sender, createIconButton("Close", "close", () => endAnnouncement("dismissed"))),
        createElement(
          "div",
          { class: "scroll", tabindex: "0", role: "group", "aria-label": "Announcement", dir: "auto" },
          title,
          createBody({ body: message.body, attachments: [] }, onLinkClick),
        ),
        createElement("div", { class: "foot" }, createElement("button", { type: "button", class: "begin", onclick: () => replyToAnnouncement() }, "Write a reply")),
      ),
    );
    attempt(() => dialog.showModal());
    (title || sender).focus();
    startOpenedTimer();
  }

  function startOpenedTimer() {
    const message = state.announced;
    clearTimeout(openedTimer);
    if (!message || document.hidden || state.handled.has(message.id)) return;
    openedTimer = setTimeout(guarded(() => messenger.reportMessage(message.id, "opened")), OPENED_AFTER);
  }

  // Close the announcement. `mark` is reported to the server, unless it is null.
  function endAnnouncement(mark) {
    const message = state.announced;
    if (!message) return;
    clearTimeout(openedTimer);
    state.announced = null;
    attempt(() => dialog.close());
    dialog.replaceChildren();
    if (mark) messenger.reportMessage(message.id, mark);
    announceNext();
  }

  // A modal dialog that was moved in the page is no longer in the top layer.
  function reopenAnnouncement() {
    attempt(() => {
      if (dialog.matches(":modal")) return;
      dialog.close();
      dialog.showModal();
    });
  }

  function replyToAnnouncement() {
    const message = state.announced;
    const entry = state.conversations.find((one) => one.message === message.id);
    endAnnouncement(null);
    messenger.reportMessage(message.id, "opened");
    messenger.showThread(entry ? entry.id : null);
  }

  Object.assign(messenger, { announceNext, endAnnouncement, reopenAnnouncement });
})(messenger);
