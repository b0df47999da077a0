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
  const { keydown } = events;
  events.keydown = function (event) {
    if (!this.composing) {
      if (this.scheduledRender) this.render();
      this.delegate?.selectionManager.updateCurrentLocationRange();
    }
    return keydown.call(this, event);
  };

  document.addEventListener("trix-initialize", ({ target }) => {
    target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => {
      button.setAttribute("aria-label", button.title);
    });
    target.dataset.ready = "";
  }, { capture: true });
})();
