// The list of conversations.
(function (messenger) {
  "use strict";

  const { state, attempt, createElement, createAvatar, senderName, createTime } = messenger;
  const list = createElement("div", { class: "list" });

  function showList(hasFocus) {
    messenger.saveDraft();
    state.view = { kind: "list" };
    messenger.heading.textContent = "Messages";
    messenger.log.hidden = messenger.composer.hidden = true;
    list.hidden = false;
    drawList();
    if (hasFocus !== false) attempt(() => list.querySelector("button").focus());
  }

  function drawEntry(entry) {
    return createElement(
      "li",
      {},
      createElement(
        "button",
        { type: "button", class: entry.read ? "entry" : "entry unread", "data-id": entry.id, onclick: () => messenger.showThread(entry.id) },
        createAvatar(entry.from),
        createElement(
          "span",
          { class: "text" },
          createElement("strong", {}, senderName(entry.from), entry.read ? null : createElement("span", { class: "unseen" }, ", unread")),
          entry.subject ? createElement("span", { class: "subject", dir: "auto" }, entry.subject) : null,
          createElement("span", { class: "preview", dir: "auto" }, previewOf(entry)),
        ),
        createTime(entry.last_at),
      ),
    );
  }

  function previewOf(entry) {
    const [unsent] = messenger.unsentOf(entry.id);
    return unsent ? `Not sent: ${unsent.text}` : (entry.by_customer ? "You: " : "") + entry.preview;
  }

  function drawOlder() {
    const error = createElement("p", { class: "trouble", role: "alert" });
    const attributes = { type: "button", class: "older", onclick: () => messenger.loadOlder(error) };
    return createElement("li", {}, error, createElement("button", attributes, `Show older (${state.older})`));
  }

  function drawList() {
    messenger.drawBackButton();
    if (state.view.kind !== "list") return;
    const focused = messenger.shadow.activeElement;
    const at = [...list.querySelectorAll("button")].indexOf(focused);
    list.replaceChildren(
      createElement("ul", {}, ...state.conversations.map(drawEntry), state.older ? drawOlder() : null),
      createElement(
        "button",
        { type: "button", class: "begin", "data-id": "new", onclick: () => messenger.showThread(null) },
        messenger.unsentOf(null).length ? "New message, not sent" : "New message",
      ),
    );
    // Keep the focus on the same conversation. If it is gone, focus the button that is now in its place.
    const buttons = [...list.querySelectorAll("button")];
    const same = (button) => button.dataset.id && button.dataset.id === focused.dataset.id;
    if (at >= 0) (buttons.find(same) || buttons[at] || buttons[0]).focus();
  }

  Object.assign(messenger, { list, showList, drawList });
})(messenger);
