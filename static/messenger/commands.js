// The commands of the page: window.Outbound.
(function (messenger) {
  "use strict";

  const { state, callbacks, guarded, logProblem, whenReady, logIn } = messenger;
  const MAX_UPDATES = 20;
  const UPDATE_WINDOW = 30 * 60 * 1000;
  // Settings of the page, which stay when another user logs in.
  const PAGE_SETTINGS = ("app_id api_base hide_default_launcher custom_launcher_selector alignment vertical_padding " +
    "horizontal_padding session_duration hide_notifications action_color background_color widget").split(" ");
  let updates = []; // when update was called

  function isAnotherUser(before, after) {
    if (before.user_id && after.user_id) return String(before.user_id) !== String(after.user_id);
    const address = (settings) => String(settings.email || "").trim().toLowerCase();
    return Boolean(before.user_id || before.email) && (!address(before) || address(before) !== address(after));
  }

  // Add new settings to the old ones. For another user, only the settings of the page remain.
  function mergeSettings(before, given) {
    const merged = { ...before, ...given };
    if (!isAnotherUser(before, merged)) return merged;
    return { ...Object.fromEntries(Object.entries(before).filter(([name]) => PAGE_SETTINGS.includes(name))), ...given };
  }

  function boot(settings) {
    if (state.booted && isAnotherUser(state.settings, settings)) messenger.logOut();
    updates = [];
    return logIn(settings);
  }

  const COMMANDS = {
    boot: (given) => boot(mergeSettings(window.outboundSettings || {}, given)),
    update(given) {
      if (!state.booted) return COMMANDS.boot(given);
      const now = Date.now();
      updates = updates.filter((at) => now - at < UPDATE_WINDOW);
      if (updates.length >= MAX_UPDATES) return logProblem("update is limited to 20 calls in 30 minutes");
      updates.push(now);
      const settings = mergeSettings(state.settings, given);
      if (isAnotherUser(state.settings, { ...state.settings, ...given })) return boot(settings);
      state.settings = settings;
      if (state.visited) messenger.applyAppearance();
      return messenger.visit();
    },
    shutdown: () => messenger.logOut(),
    show: () => whenReady(messenger.showPanel),
    hide: () => messenger.hidePanel(),
    showMessages: () => whenReady(() => {
      messenger.openPanel();
      messenger.showList();
    }),
    showNewMessage: (text) => whenReady(() => messenger.showThread(null, typeof text === "string" ? text : "")),
    showConversation: (id) => whenReady(() => messenger.showThread(String(id))),
    hideNotifications(isHidden) {
      state.settings.hide_notifications = isHidden !== false;
      messenger.drawSnippets();
      messenger.announceNext();
    },
    trackEvent: (name, metadata) => whenReady(async () => {
      const answer = await messenger.request("POST", "events", { event_name: name, metadata: messenger.toPlain(metadata) });
      const error = messenger.errorMessage(answer);
      if (answer.status !== 200 || error) logProblem(error || `the event ${name} was not recorded`);
    }),
    reattach_activator() {}, // not needed: clicks are handled on the document
    getVisitorId(callback) {
      const { user_id: userId } = state.settings;
      const id = userId !== undefined ? userId : (messenger.loadVisitorToken() || "").split(":")[0] || undefined;
      if (typeof callback === "function") callback(id);
      return id;
    },
    onUnreadCountChange(callback) {
      callbacks.unread.push(callback);
      messenger.runCallbacks([callback], state.unread);
    },
    onShow: (callback) => void callbacks.show.push(callback),
    onHide: (callback) => void callbacks.hide.push(callback),
  };

  function outbound(command, ...given) {
    const action = Object.prototype.hasOwnProperty.call(COMMANDS, command) && COMMANDS[command];
    if (!action) return logProblem(`unknown command: ${command}`);
    const result = guarded(action)(...given);
    return result && typeof result.then === "function" ? undefined : result;
  }

  // The page's own launchers.
  document.addEventListener("click", guarded((event) => {
    const { custom_launcher_selector: selector, widget } = state.settings;
    const selectors = [selector, widget && widget.activator];
    if (state.booted && selectors.some((one) => one && event.target.closest && event.target.closest(one))) {
      event.preventDefault();
      whenReady(messenger.togglePanel);
    }
  }));

  const queued = (window.Outbound && window.Outbound.q) || [];
  outbound.loaded = true;
  window.Outbound = outbound;
  if (!queued.length && window.outboundSettings) outbound("boot");
  for (const call of queued) outbound(...call);
})(messenger);
