// The panel with the list and the thread, its element in the page, and its appearance.
(function (messenger) {
  "use strict";

  const { state, callbacks, attempt, guarded, createElement, createIconButton, launcher, list, log, composer } = messenger;
  const host = document.createElement("outbound-messenger");
  const shadow = host.attachShadow({ mode: "open" });
  const heading = createElement("h2", { id: "heading" });
  const backButton = createIconButton("All messages", "back", () => messenger.showList(true));
  const panel = createElement(
    "section",
    { class: "panel", role: "dialog", "aria-labelledby": "heading", hidden: true },
    createElement("div", { class: "head" }, backButton, heading, createIconButton("Close", "close", () => hidePanel())),
    list,
    log,
    composer,
  );
  // A popover is in the top layer: above everything on the page, and not moved by its transforms.
  const outer = createElement(
    "div",
    { class: "outer", role: "region", "aria-label": "Messenger", lang: "en", popover: "manual" },
    messenger.liveRegion,
    messenger.snippets,
    panel,
    launcher,
  );
  const smallScreen = matchMedia("(max-width: 480px)");
  let opener = null; // the element of the page that had the focus before the panel opened

  shadow.append(outer);
  // Keys typed here must not trigger shortcuts of the page.
  for (const name of ["keydown", "keyup", "keypress"]) outer.addEventListener(name, (event) => event.stopPropagation());
  attempt(() => smallScreen.addEventListener("change", setModal));
  setModal();
  panel.addEventListener("keydown", guarded((event) => {
    if (event.key === "Escape") hidePanel();
    if (event.key === "Tab" && smallScreen.matches) messenger.trapFocus(event, panel);
  }));
  addStyle();
  // The page may move our element; no event reports that, only this callback.
  attempt(() => customElements.define(host.localName, class extends HTMLElement {
    connectedCallback() {
      if (this === host) guarded(attachMessenger)();
    }
  }));

  // On a small screen the panel covers the page.
  function setModal() {
    panel.setAttribute("aria-modal", String(smallScreen.matches));
  }

  function addStyle() {
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(messenger.STYLE);
      shadow.adoptedStyleSheets = [sheet];
    } catch (error) {
      shadow.prepend(createElement("style", {}, messenger.STYLE)); // browsers before 2023
    }
  }

  // Put the messenger into the page, again if the page has removed it.
  function attachMessenger() {
    if (!document.body) return;
    if (!host.isConnected) document.body.append(host);
    // An element that leaves the page, even briefly, leaves the top layer for good.
    attempt(() => outer.matches(":popover-open") || outer.showPopover());
    if (state.announced) messenger.reopenAnnouncement();
  }

  function removeMessenger() {
    host.remove();
    panel.hidden = true;
    outer.classList.remove("open");
    state.view = { kind: "list" };
    messenger.clearComposer();
    for (const element of [list, log, messenger.snippets, messenger.liveRegion]) element.replaceChildren();
  }

  function updateTimes() {
    for (const time of shadow.querySelectorAll("time")) time.textContent = messenger.relativeTime(new Date(time.dateTime));
  }

  // Apply the settings that change how the messenger looks.
  function applyAppearance() {
    const { settings } = state;
    const style = outer.style;
    const color = settings.action_color || settings.background_color;
    outer.classList.toggle("left", settings.alignment === "left");
    launcher.hidden = Boolean(settings.hide_default_launcher);
    for (const [name, value] of [["--away-x", settings.horizontal_padding], ["--away-y", settings.vertical_padding]]) {
      const pixels = Number(value);
      if (value !== undefined && pixels >= 0) style.setProperty(name, `${Math.min(pixels, 1000)}px`);
      else style.removeProperty(name);
    }
    style.removeProperty("--action");
    style.removeProperty("--on-action");
    if (color && CSS.supports("color", color)) {
      style.setProperty("--action", color);
      style.setProperty("--on-action", textColorOn(color));
    }
  }

  // Black or white, whichever has the higher contrast (WCAG relative luminance).
  function textColorOn(color) {
    const probe = createElement("span");
    probe.style.color = color;
    outer.append(probe);
    const channels = (getComputedStyle(probe).color.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    probe.remove();
    const luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2];
    return luminance > 0.179 ? "#000" : "#fff";
  }

  function isOpen() {
    return !panel.hidden;
  }

  function openPanel() {
    attachMessenger();
    if (isOpen()) return;
    const focused = document.activeElement;
    opener = focused === host || focused === document.body ? null : focused;
    panel.hidden = false;
    outer.classList.add("open");
    messenger.drawSnippets();
    messenger.drawLauncher();
    messenger.schedulePoll();
    messenger.runCallbacks(callbacks.show);
  }

  function hidePanel() {
    if (!isOpen()) return;
    const hadFocus = shadow.activeElement && panel.contains(shadow.activeElement);
    messenger.saveDraft();
    panel.hidden = true;
    outer.classList.remove("open");
    messenger.drawLauncher();
    attempt(() => hadFocus && opener && opener.focus());
    // The opener may have been removed or hidden meanwhile.
    if (hadFocus && (!opener || document.activeElement !== opener)) launcher.focus();
    opener = null;
    messenger.runCallbacks(callbacks.hide);
  }

  function togglePanel() {
    if (isOpen()) hidePanel();
    else showPanel();
  }

  // Open the panel where the customer most likely wants to be.
  function showPanel() {
    const { conversations } = state;
    const unread = conversations.filter((entry) => !entry.read);
    openPanel();
    const { view } = state;
    if (unread.length === 1) messenger.showThread(unread[0].id);
    else if (view.kind === "thread" && (view.id !== null || view.outbox.pending.length)) messenger.showThread(view.id);
    else if (conversations.length) messenger.showList();
    else messenger.showThread(null);
  }

  function drawBackButton() {
    backButton.hidden = state.view.kind === "list" || !state.conversations.length;
  }

  Object.assign(messenger, {
    host, shadow, outer, heading, attachMessenger, removeMessenger, updateTimes, applyAppearance,
    isOpen, openPanel, hidePanel, togglePanel, showPanel, drawBackButton,
  });
})(messenger);
