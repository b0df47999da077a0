// The launcher, and the snippets of new messages above it.
(function (messenger) {
  "use strict";

  const { state, createElement, createIcon, createIconButton, createAvatar, senderName, closedSnippets } = messenger;
  // Announces changes to screen readers.
  const liveRegion = createElement("div", { class: "unseen", role: "status", "aria-live": "polite" });
  const snippets = createElement("div", { class: "snippets" });
  const badge = createElement("span", { class: "badge", hidden: true });
  const launcher = createElement(
    "button",
    { type: "button", class: "launcher", "aria-expanded": "false", onclick: () => messenger.togglePanel() },
    createIcon("chat"),
    createIcon("down"),
    badge,
  );

  function drawLauncher() {
    const { unread } = state;
    const isOpen = messenger.isOpen();
    const unsent = messenger.countUnsent();
    const counts = (unread ? `, ${unread} unread` : "") + (unsent ? `, ${unsent} not sent` : "");
    launcher.setAttribute("aria-label", isOpen ? "Close messages" : `Open messages${counts}`);
    launcher.setAttribute("aria-expanded", String(isOpen));
    badge.textContent = unsent ? "!" : unread > 9 ? "9+" : String(unread);
    badge.hidden = !(unread || unsent) || isOpen;
  }

  function snippetKey(entry) {
    return `${entry.id}-${entry.last_at}`;
  }

  function isClosed(entry) {
    // An announcement has a dialog instead of a snippet, until someone replies to it.
    if (closedSnippets.has(snippetKey(entry))) return true;
    if (!entry.message || entry.answered) return false;
    const hasEnded = entry.shown_until !== null && entry.shown_until * 1000 <= Date.now();
    return entry.dismissed || hasEnded || entry.format === "announcement";
  }

  function drawSnippet(entry, isNew) {
    const name = senderName(entry.from);
    return createElement(
      "article",
      { class: isNew ? "snippet new" : "snippet", "data-key": snippetKey(entry), "aria-label": `Message from ${name}` },
      createElement(
        "button",
        { type: "button", class: "opens", onclick: () => messenger.showThread(entry.id) },
        createAvatar(entry.from),
        createElement("span", { class: "text" }, createElement("strong", {}, name), createElement("span", { dir: "auto" }, entry.preview)),
      ),
      createIconButton("Dismiss", "close", () => dismissSnippet(entry)),
    );
  }

  function drawSnippets() {
    const isSilent = messenger.isOpen() || state.settings.hide_notifications;
    const shown = isSilent ? [] : state.conversations.filter((entry) => !entry.read && !isClosed(entry)).slice(0, 2);
    const before = new Set([...snippets.children].map((card) => card.dataset.key));
    const isNew = (entry) => !before.has(snippetKey(entry));
    snippets.replaceChildren(...shown.map((entry) => drawSnippet(entry, isNew(entry))));
    for (const entry of shown.filter(isNew)) {
      liveRegion.textContent = `New message from ${senderName(entry.from)}: ${entry.preview}`;
    }
  }

  function dismissSnippet(entry) {
    messenger.saveClosedSnippet(snippetKey(entry));
    drawSnippets();
    if (!launcher.hidden) launcher.focus();
    if (entry.message && !entry.answered) messenger.reportMessage(entry.message, "dismissed");
  }

  Object.assign(messenger, { liveRegion, snippets, launcher, drawLauncher, drawSnippets });
})(messenger);
