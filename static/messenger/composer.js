// The composer: drafts, images, and sending. Messages without an answer stay in the thread and can be sent again.
(function (messenger) {
  "use strict";

  const { state, guarded, createElement, createIcon, createIconButton, errorMessage, log } = messenger;
  const MAX_IMAGES = 5;
  const MAX_IMAGE_SIZE = 5 * 1024 * 1024;
  const REFUSED = [400, 413, 429]; // sent again unchanged, the message would be refused again
  const input = createElement("textarea", {
    rows: "1", "aria-label": "Write a message", placeholder: "Write a message…", maxlength: "10000", dir: "auto",
  });
  const picker = createElement("input", { type: "file", accept: "image/png,image/jpeg,image/gif,image/webp", multiple: true, hidden: true });
  const chosen = createElement("div", { class: "chosen" });
  const composerError = createElement("p", { class: "trouble", role: "alert" });
  const composer = createElement(
    "form",
    { class: "composer", onsubmit: submitMessage },
    chosen,
    composerError,
    createElement(
      "div",
      { class: "row" },
      picker,
      createIconButton("Add an image", "image", () => picker.click()),
      input,
      createElement("button", { type: "submit", class: "send", "aria-label": "Send", title: "Send" }, createIcon("send")),
    ),
  );
  let images = [];
  // By the id of the conversation: its draft, and its messages that are being sent or failed.
  const outboxes = new Map();

  input.addEventListener("keydown", guarded((event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      composer.requestSubmit();
    }
  }));
  input.addEventListener("input", guarded(resizeInput));
  input.addEventListener("paste", guarded((event) => addImages(event.clipboardData.files)));
  picker.addEventListener("change", guarded(() => {
    addImages(picker.files);
    picker.value = "";
  }));

  function outboxOf(id) {
    if (!outboxes.has(id)) outboxes.set(id, { id, draft: "", pending: [] });
    return outboxes.get(id);
  }

  function unsentOf(id) {
    return outboxes.has(id) ? outboxes.get(id).pending.filter((message) => message.failed) : [];
  }

  function countUnsent() {
    return [...outboxes.keys()].flatMap(unsentOf).length;
  }

  function saveDraft() {
    if (state.view.kind === "thread") state.view.outbox.draft = input.value;
  }

  function startWriting(text) {
    composerError.textContent = "";
    input.value = text;
    resizeInput();
    input.focus();
  }

  function clearComposer() {
    for (const outbox of outboxes.values()) outbox.isClosed = true;
    outboxes.clear();
    images = [];
    chosen.replaceChildren();
    composerError.replaceChildren();
    input.value = "";
  }

  function resizeInput() {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 140)}px`;
  }

  function addImages(files) {
    if (files.length) composerError.textContent = "";
    for (const file of files) {
      if (!/^image\/(png|jpeg|gif|webp)$/.test(file.type)) composerError.textContent = `${file.name} is not a PNG, JPEG, GIF or WebP image.`;
      else if (images.length >= MAX_IMAGES) composerError.textContent = "You can attach up to 5 images to a message.";
      else if (file.size > MAX_IMAGE_SIZE) composerError.textContent = `${file.name} is larger than 5 MB.`;
      else images.push(file);
    }
    drawImages();
  }

  function drawImages() {
    chosen.replaceChildren(
      ...images.map((file) =>
        createElement(
          "span",
          { class: "chip" },
          file.name || "Image",
          createIconButton(`Remove ${file.name || "image"}`, "close", () => {
            images = images.filter((image) => image !== file);
            drawImages();
            input.focus();
          }),
        ),
      ),
    );
  }

  function submitMessage(event) {
    event.preventDefault();
    const text = input.value.trim();
    if (!text && !images.length) return null;
    const files = images;
    images = [];
    input.value = "";
    composerError.textContent = "";
    drawImages();
    resizeInput();
    return deliver(state.view.outbox, text, files);
  }

  // The idempotency key: the server stores a message once, also if it is sent again because no answer came.
  function createKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function drawPending(text, status) {
    return createElement(
      "article",
      { class: "part own pending" },
      createElement("div", { class: "bubble", dir: "auto" }, createElement("div", { class: "body" }, createElement("p", { class: "typed" }, text))),
      status,
    );
  }

  async function deliver(outbox, text, files, key = createKey()) {
    const status = createElement("p", { class: "meta" }, "Sending…");
    const shownText = text || files.map((file) => file.name || "Image").join(", ");
    const element = drawPending(shownText, status);
    const message = { element, text: shownText, failed: false };
    outbox.pending.push(message);
    if (outbox === state.view.outbox) {
      log.append(element);
      messenger.scrollToEnd();
    }
    // One after the other: the first message of a new conversation gives the id to the next ones.
    const previous = outbox.sending;
    const sending = (async () => {
      await previous;
      return messenger.sendMessage(outbox.id, text, files, key);
    })();
    outbox.sending = sending;
    const answer = await sending;
    if (outbox.isClosed) return; // the user has changed meanwhile
    const remove = () => {
      element.remove();
      outbox.pending.splice(outbox.pending.indexOf(message), 1);
      messenger.drawLauncher();
    };
    const edit = () => {
      remove();
      input.value = [text, input.value].filter(Boolean).join("\n");
      addImages(files);
      resizeInput();
    };
    const retry = () => {
      remove();
      return deliver(outbox, text, files, key);
    };
    const isRefused = REFUSED.includes(answer.status);
    const isVisible = outbox === state.view.outbox && messenger.isOpen();
    if (answer.status === 200) {
      remove();
      setConversationId(outbox, answer.data.id);
      if (outbox === state.view.outbox) {
        for (const hello of log.querySelectorAll(".hello")) hello.remove();
        messenger.drawThread(answer.data);
        messenger.scrollToEnd();
      }
    } else if (isRefused && isVisible && !input.value && !images.length) {
      edit();
      composerError.textContent = `Not sent. ${errorMessage(answer)}`;
    } else {
      message.failed = true;
      const [label, action] = isRefused ? ["Edit", edit] : ["Try again", retry];
      const onclick = () => {
        input.focus();
        return action();
      };
      status.replaceChildren(
        createElement("span", { role: "alert" }, `Not sent. ${isRefused ? errorMessage(answer) : ""} `),
        createElement("button", { type: "button", class: "again", onclick }, label),
      );
      if (!isVisible) messenger.liveRegion.textContent = `Not sent: ${shownText}`;
      messenger.drawLauncher();
      messenger.drawList();
    }
  }

  function setConversationId(outbox, id) {
    const { view } = state;
    const other = outboxes.get(id); // the conversation was opened from the list before its id was known here
    if (other && other !== outbox) {
      outbox.pending.push(...other.pending);
      other.pending = outbox.pending;
    }
    if (outboxes.get(outbox.id) === outbox) outboxes.delete(outbox.id);
    outboxes.set(id, outbox);
    outbox.id = id;
    if (view.outbox === outbox) view.id = id;
    else if (view.id === id) view.outbox = outbox;
  }

  Object.assign(messenger, {
    composer, composerError, input, outboxOf, unsentOf, countUnsent, saveDraft, startWriting, clearComposer,
  });
})(messenger);
