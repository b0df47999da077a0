/* Fixes for Trix, the theme's editor. This is a classic script, directly after Trix: a module runs after the page is parsed,
   and Trix has created the first editor by then. */
(function () {
  "use strict";

  /* Trix merges neighbouring blocks of one kind into one element. That is right for list items, which have their own
     inner elements, but it would join the texts of two paragraphs, quotes or code blocks. */
  const block = window.Trix.models.Block.prototype;
  const { canBeGroupedWith } = block;
  const endsAt = (one, depth) => one.getAttributeLevel() === depth + 1;
  block.canBeGroupedWith = function (next, depth) {
    return canBeGroupedWith.call(this, next, depth) && !(endsAt(this, depth) && endsAt(next, depth));
  };

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
  window.Trix.config.attachments.preview.caption = { name: false, size: false };

  /* Trix rewrites the HTML when it opens it and when an image has loaded, and drops unsupported elements such as
     tables. Unedited HTML is restored. */
  const withoutSizes = (html) => html.replace(/ (?:data-trix-attachment|width|height)="[^"]*"/g, "");
  document.addEventListener("trix-initialize", ({ target }) => {
    const input = target.inputElement;
    const given = target.defaultValue;
    const opened = withoutSizes(input.value);
    const restore = () => { if (withoutSizes(input.value) === opened) input.value = given; };
    restore();
    target.addEventListener("trix-change", restore);
    target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => {
      button.setAttribute("aria-label", button.title);
    });
    target.dataset.ready = "";
  }, { capture: true }); /* Before the inbox restores a draft. */
})();
