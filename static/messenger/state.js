// State that several parts share, and the callbacks of the page.
(function (messenger) {
  "use strict";

  const PAGE_SIZE = 50;
  const state = {
    settings: {}, // the page's settings, from boot and update
    booted: false,
    visited: false, // the last visit was accepted
    session: 0, // increases with each login and logout; answers for an earlier session are ignored
    user: null, // the user or lead, null for a visitor who has not written
    visitedAt: 0,
    failures: 0, // failed requests in a row
    conversations: [], // as listed by the server
    limit: PAGE_SIZE, // the length of the list that is requested
    older: 0, // the number of conversations that are not listed
    unread: 0,
    view: { kind: "list" }, // or { kind: "thread", id, parts, outbox }; the id of a new conversation is null
    announcements: [], // to be shown, one at a time
    announced: null, // the announcement on the screen
    handled: new Set(), // in-app messages that were opened, dismissed or clicked in this page
  };
  const callbacks = { show: [], hide: [], unread: [], email: [] };

  function runCallbacks(functions, ...given) {
    for (const callback of functions) messenger.guarded(callback)(...given);
  }

  function findConversation(id) {
    return state.conversations.find((entry) => entry.id === id);
  }

  function setUnread(count) {
    const hasChanged = count !== state.unread;
    state.unread = count;
    messenger.drawLauncher();
    if (hasChanged) runCallbacks(callbacks.unread, count);
  }

  // Forget everything about the person who was logged in.
  function resetState() {
    state.conversations = [];
    state.limit = PAGE_SIZE;
    state.older = 0;
    state.announcements = [];
    state.handled.clear();
    state.user = null;
    messenger.setSessionToken(null);
    messenger.forgetListTag();
    messenger.endAnnouncement(null);
    messenger.removeMessenger();
    setUnread(0);
  }

  Object.assign(messenger, { PAGE_SIZE, state, callbacks, runCallbacks, findConversation, setUnread, resetState });
})(messenger);
