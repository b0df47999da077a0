// A thread: the parts of one conversation, and the question for an email address.
(function (messenger) {
  "use strict";

  const { state, callbacks, attempt, guarded, createElement, createAvatar, createBody, createTime, senderName } = messenger;
  const log = createElement("div", { class: "log", role: "log", tabindex: "0", "aria-label": "Conversation" });
  let isAtEnd = true;

  log.addEventListener(
    "scroll",
    () => {
      isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    },
    { passive: true },
  );
  // A reader at the end stays there while images load and the composer grows.
  const sizes = new ResizeObserver(() => isAtEnd && scrollToEnd());
  sizes.observe(log);

  function scrollToEnd() {
    isAtEnd = true;
    log.scrollTop = log.scrollHeight;
    for (const image of log.querySelectorAll("img")) if (!image.complete) sizes.observe(image);
  }

  // Show a conversation, or a new one if the id is null, with `text` in its composer.
  function showThread(id, text) {
    messenger.openPanel();
    messenger.saveDraft();
    const entry = messenger.findConversation(id);
    const outbox = messenger.outboxOf(id);
    state.view = { kind: "thread", id, parts: [], outbox };
    messenger.heading.textContent = entry ? senderName(entry.from) : "New message";
    messenger.drawBackButton();
    messenger.list.hidden = true;
    log.hidden = messenger.composer.hidden = false;
    log.replaceChildren();
    isAtEnd = true;
    if (id === null) log.append(createElement("p", { class: "hello" }, "Ask us anything. Our answer will appear here."));
    log.append(...outbox.pending.map((message) => message.element));
    messenger.startWriting(text || outbox.draft);
    if (id !== null) messenger.loadThread(id);
  }

  function drawThread(thread) {
    const { view } = state;
    if (view.kind !== "thread" || view.id !== thread.id) return;
    const isFirst = !view.parts.length;
    const drawn = new Set(view.parts);
    messenger.heading.textContent = senderName(thread.from);
    const next = log.querySelector(".pending");
    for (const part of thread.parts) {
      if (drawn.has(part.id)) continue;
      const isMessage = part.id === "opening" && thread.message;
      const onLinkClick = isMessage ? (link) => messenger.reportMessage(thread.message, "clicked", { link }) : null;
      log.insertBefore(drawPart(part, onLinkClick), next);
    }
    view.parts = thread.parts.map((part) => part.id);
    drawEmailForm(thread);
    if (isFirst || isAtEnd) scrollToEnd();
  }

  function drawPart(part, onLinkClick) {
    const isOwn = part.by_customer;
    const author = isOwn ? createElement("span", { class: "unseen" }, "You said ") : createElement("span", { class: "who" }, senderName(part.from));
    const title = part.subject ? createElement("h3", { class: "title" }, part.subject) : null;
    return createElement(
      "article",
      { class: isOwn ? "part own" : "part" },
      isOwn ? null : createAvatar(part.from),
      createElement("div", { class: "bubble", dir: "auto" }, isOwn ? author : null, title, createBody(part, onLinkClick)),
      createElement("p", { class: "meta" }, isOwn ? null : author, isOwn ? null : " · ", createTime(part.created_at)),
    );
  }

  // Ask a lead without an email address for one, so that our answer reaches them after they have left.
  function drawEmailForm(thread) {
    const form = log.querySelector(".ask");
    const isWanted = thread.asks_email && thread.parts.some((part) => part.by_customer);
    if (!isWanted) return attempt(() => form && form.remove());
    const next = log.querySelector(".pending");
    if (!form) return log.insertBefore(createEmailForm(), next);
    const focused = form.contains(messenger.shadow.activeElement) && messenger.shadow.activeElement;
    if (form.nextElementSibling !== next) log.insertBefore(form, next);
    return focused && focused.focus();
  }

  function createEmailForm() {
    const field = createElement("input", { type: "email", id: "email", required: true, autocomplete: "email", placeholder: "you@example.com", maxlength: "254" });
    const error = createElement("p", { class: "trouble", role: "alert" });
    const form = createElement(
      "form",
      { class: "ask" },
      createElement("label", { for: "email" }, "Where can we reach you after you leave this page?"),
      createElement("div", { class: "row" }, field, createElement("button", { type: "submit" }, "Save email address")),
      error,
    );
    form.addEventListener("submit", guarded((event) => {
      event.preventDefault();
      return saveEmail(form, field.value.trim(), error);
    }));
    return form;
  }

  async function saveEmail(form, email, error) {
    error.textContent = "";
    const answer = await messenger.request("POST", "email", { email });
    if (answer.status === 200) {
      form.replaceWith(createElement("p", { class: "noted", role: "status" }, `We will reply here and to ${answer.data.email}.`));
      scrollToEnd();
      messenger.input.focus();
      messenger.runCallbacks(callbacks.email);
    } else {
      error.textContent = messenger.errorMessage(answer) || "Your email address could not be saved. Try again.";
    }
  }

  Object.assign(messenger, { log, scrollToEnd, showThread, drawThread });
})(messenger);
