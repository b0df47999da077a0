// The commands of the page: window.Outbound, and window.Intercom if the page asks for it.
(function (messenger) {
  "use strict";

  const { state, callbacks, guarded, logProblem, whenReady, logIn, isIntercom } = messenger;
  const NAMES = isIntercom ? ["Outbound", "Intercom"] : ["Outbound"];
  const MAX_UPDATES = 20;
  const UPDATE_WINDOW = 30 * 60 * 1000;
  // Settings of the page, which stay when another user logs in.
  const PAGE_SETTINGS = ("app_id api_base hide_default_launcher custom_launcher_selector alignment vertical_padding " +
    "horizontal_padding session_duration hide_notifications action_color background_color widget").split(" ");
  const SPACES = { home: "show", messages: "showMessages" };
  // Commands about things that do not exist here.
  const WITHOUT_EFFECT = new Set(
    "startTour startSurvey startChecklist showArticle showNews showTicket setAuthTokens whoami".split(" "),
  );
  const noted = new Set(); // commands of which the console says that they have no effect
  let updates = []; // when update was called

  function pageSettings() {
    return window[isIntercom ? "intercomSettings" : "outboundSettings"];
  }

  function noteNoEffect(command) {
    if (!noted.has(command)) logProblem(`${command} has no effect in this messenger`);
    noted.add(command);
  }

  function addCallback(list, callback) {
    if (typeof callback === "function") list.push(callback);
  }

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
    boot: (given) => boot(mergeSettings(pageSettings() || {}, given)),
    update(given) {
      if (!state.booted) return given || pageSettings() ? COMMANDS.boot(given) : undefined;
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
    startConversation: (text) => COMMANDS.showNewMessage(text),
    showSpace: (name) => (SPACES[name] ? COMMANDS[SPACES[name]]() : noteNoEffect(`showSpace ${name}`)),
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
      addCallback(callbacks.unread, callback);
      if (typeof callback === "function") messenger.runCallbacks([callback], state.unread);
    },
    onShow: (callback) => addCallback(callbacks.show, callback),
    onHide: (callback) => addCallback(callbacks.hide, callback),
    onUserEmailSupplied: (callback) => addCallback(callbacks.email, callback),
  };

  function outbound(command, ...given) {
    if (WITHOUT_EFFECT.has(command)) return noteNoEffect(command);
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

  const queued = NAMES.flatMap((name) => (window[name] && window[name].q) || []);
  outbound.loaded = true;
  for (const name of NAMES) window[name] = outbound;
  if (pageSettings() && !queued.some(([command]) => command === "boot" || command === "update")) outbound("boot");
  for (const call of queued) outbound(...call);
})(messenger);
