/* Fixes for Trix, the theme's editor. This is a classic script, directly after Trix: a module runs after the page is parsed,
   and Trix has created the first editor by then. */
(function () {
  "use strict";

  /* Trix renders a typed key in the next frame and selects its place, which would take the focus back from a field that
     staff entered in between. Only the place of the next insertion is kept then. */
  const input = window.Trix.controllers.Level2InputController.prototype;
  const { render } = input;
  input.render = function () {
    const isLate = this.scheduledRender && document.activeElement !== this.element;
    const manager = isLate && this.delegate?.selectionManager;
    if (manager) {
      manager.clearSelection = () => {};
      manager.setLocationRange = (range) => { manager.currentLocationRange = range; };
    }
    render.call(this);
    if (manager) { delete manager.clearSelection; delete manager.setLocationRange; }
  };

  /* The browser inserts a typed key at once, Trix in the next frame. Keys that come before it (Enter, Backspace, arrows)
     would act on two different texts. */
  const { events } = window.Trix.controllers.Level2InputController;
  /* The browser would copy the styles of the page too. rich_text_paste.js knows the mark. */
  const copySelection = (controller, { clipboardData }) => {
    const selected = controller.responder.getSelectedDocument()?.toSerializableDocument();
    if (!selected || document.activeElement !== controller.element) return false;
    clipboardData.setData("text/html", `<!--outbound-->${window.Trix.views.DocumentView.render(selected).innerHTML}`);
    clipboardData.setData("text/plain", selected.toString().replace(/\n$/, ""));
    return true;
  };
  events.copy = function (event) { if (copySelection(this, event)) event.preventDefault(); };
  events.cut = function (event) {
    if (!copySelection(this, event)) return;
    event.preventDefault();
    this.element.editor.recordUndoEntry("Cut");
    this.element.editor.deleteInDirection("backward");
  };
  const { keydown } = events;
  events.keydown = function (event) {
    if (!this.composing) {
      if (this.scheduledRender) this.render();
      this.delegate?.selectionManager.updateCurrentLocationRange();
    }
    return keydown.call(this, event);
  };

  const parser = window.Trix.models.HTMLParser.prototype;
  const { isInsignificantTextNode } = parser;
  parser.isInsignificantTextNode = function (node) {
    return !node?.data?.includes("\u00a0") && isInsignificantTextNode.call(this, node);
  };

  /* The theme's copy of Trix reads non-breaking spaces as ordinary ones. Only text that is opened has a reference. */
  const { processTextNode } = parser;
  parser.processTextNode = function (node) {
    if (node.parentElement.closest("pre")) return processTextNode.call(this, node);
    /* Trix draws spaces that a browser would collapse as non-breaking ones; pasted text has them anywhere. */
    const given = node.data.replace(/[^\S\u00a0]+/g, " ");
    const string = this.referenceElement ? given : given.replace(this.isRedrawn ? /(?<=^|\s)\u00a0(?!$)|(?<!^)\u00a0(?=\s|$)/g : /\u00a0/g, " ");
    let before = node.previousSibling;
    while (before?.lastChild) before = before.lastChild;
    const isAfterSpace = before?.nodeType === Node.TEXT_NODE && /[^\S\u00a0]$/.test(before.data);
    return this.appendStringWithAttributes(isAfterSpace ? string.replace(/^ /, "") : string, this.getTextAttributes(node.parentNode));
  };

  /* The toolbar with the keyboard: one stop of Tab, arrows inside, and Enter or Space like a press of the mouse, the only
     one that Trix knows. */
  const toolButtons = (toolbar) => [...toolbar.querySelectorAll("[data-trix-button-group] button")].filter((one) => one.offsetParent);
  function moveInToolbar(event) {
    const button = event.target.closest("[data-trix-button-group] button");
    if (!button) return;
    if (["Enter", " "].includes(event.key)) {
      event.preventDefault();
      button.dispatchEvent(new MouseEvent("mousedown", { bubbles: true, cancelable: true }));
      return;
    }
    const buttons = toolButtons(event.currentTarget);
    const place = buttons.indexOf(button);
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const chosen = buttons.at(next % buttons.length);
    button.tabIndex = -1;
    chosen.tabIndex = 0;
    chosen.focus();
  }
  function nameTools(toolbar) {
    toolbar.setAttribute("role", "toolbar");
    toolbar.setAttribute("aria-label", "Formatting");
    toolbar.querySelectorAll("button[title]").forEach((button) => button.setAttribute("aria-label", button.title));
    const first = toolButtons(toolbar)[0] ?? toolbar.querySelector("button");
    if (first) first.tabIndex = 0;
    toolbar.addEventListener("keydown", moveInToolbar);
  }
  document.addEventListener("trix-initialize", ({ target }) => {
    if (target.toolbarElement) nameTools(target.toolbarElement);
    target.dataset.ready = "";
  }, { capture: true });
})();
