// Loading conversations, sending messages, and telling the other tabs of this browser.
(function (messenger) {
  "use strict";

  const { LIST, PAGE_SIZE, state, attempt, guarded, request, composerError } = messenger;
  const NOT_LOADED = "This conversation could not be loaded. The messenger will try again.";
  const tabs = attempt(() => new BroadcastChannel("outbound-messenger"), null);

  if (tabs) {
    tabs.onmessage = guarded(() => {
      messenger.forgetListTag(); // a message dismissed in the other tab does not change the list's ETag
      return loadConversations();
    });
  }

  function notifyTabs() {
    attempt(() => tabs && tabs.postMessage("changed"));
  }

  async function loadConversations() {
    if (!state.visited || !state.user) return;
    const { session } = state;
    const answer = await request("GET", state.limit > PAGE_SIZE ? `${LIST}?most=${state.limit}` : LIST);
    if (session !== state.session) return;
    if (answer.status === 401) {
      // The token has expired. Visit again, but not in an endless loop.
      state.visited = Date.now() - state.visitedAt < 5000;
      if (!state.visited) await messenger.visit();
      return;
    }
    state.failures = answer.status === 200 || answer.status === 304 ? 0 : state.failures + 1;
    if (answer.status !== 200) return;
    const { conversations, older, unread_count: unread, expected } = answer.data;
    state.conversations = conversations;
    state.older = older;
    messenger.setUnread(unread);
    messenger.drawList();
    if (messenger.host.isConnected) messenger.drawSnippets();
    const { view } = state;
    const shown = view.kind === "thread" && messenger.isOpen() && messenger.findConversation(view.id);
    if (shown && (shown.version !== view.version || !shown.read)) await loadThread(shown.id);
    // A direct message is waiting for the next visit.
    if (expected && !document.hidden && Date.now() - state.visitedAt > 10000) await messenger.visit();
  }

  async function loadOlder(error) {
    const { session } = state;
    const count = state.conversations.length;
    error.textContent = "";
    state.limit += PAGE_SIZE;
    await loadConversations();
    if (session !== state.session || state.conversations.length > count) return;
    state.limit -= PAGE_SIZE;
    error.textContent = "Older conversations could not be loaded. Try again.";
  }

  async function loadThread(id) {
    const { session } = state;
    const answer = await request("GET", `conversations/${id}`);
    const { view } = state;
    if (session !== state.session || view.kind !== "thread" || view.id !== id) return;
    if (answer.status !== 200) {
      composerError.textContent = composerError.textContent || NOT_LOADED;
      return;
    }
    view.version = answer.data.version;
    messenger.drawThread(answer.data);
    if (composerError.textContent === NOT_LOADED) composerError.textContent = "";
    const entry = messenger.findConversation(id);
    if (messenger.isOpen() && !document.hidden && entry && !entry.read) {
      entry.read = true;
      messenger.setUnread(Math.max(0, state.unread - 1));
      await request("POST", `conversations/${id}/read`, { version: view.version });
      notifyTabs();
    }
  }

  // Send a message; it begins a conversation if the id is null.
  async function sendMessage(id, text, files, key) {
    const { session } = state;
    let body = { body: text, key };
    if (files.length) {
      body = new FormData();
      body.append("body", text);
      body.append("key", key);
      for (const file of files) body.append("images", file, file.name || "image");
    }
    const answer = await request("POST", id === null ? "conversations" : `conversations/${id}/reply`, body);
    if (session !== state.session) return { status: 0 };
    if (answer.status === 200) {
      state.user = state.user || { type: "lead" };
      notifyTabs();
      loadConversations();
      messenger.schedulePoll();
    }
    return answer;
  }

  // Report that an in-app message was opened, dismissed or clicked.
  async function reportMessage(id, mark, facts) {
    state.handled.add(id);
    await request("POST", `messages/${id}/${mark}`, facts);
    notifyTabs();
    if (mark !== "clicked") await loadConversations();
  }

  Object.assign(messenger, { loadConversations, loadOlder, loadThread, sendMessage, reportMessage });
})(messenger);
