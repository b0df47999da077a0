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

  for (const level of [5, 6]) {
    window.Trix.config.blockAttributes[`heading${level}`] = { tagName: `h${level}`, breakOnReturn: true, group: false, terminal: true };
  }

  /* Tables and lines become blocks that Trix carries but does not edit, and images carry their attributes: it would drop
     both. DOMParser runs no script and loads no image. */
  const parsed = (html) => new DOMParser().parseFromString(html, "text/html");
  const isInside = (element) => element.parentElement.closest("table, [data-trix-attachment]");
  function carried(element) {
    const html = element.outerHTML;
    const image = element.localName === "a" ? element.firstElementChild : element;
    if (image.localName !== "img") return { contentType: "text/html", content: html, html };
    const size = (name) => Number.parseInt(image.getAttribute(name), 10) || undefined;
    return { contentType: "image", url: image.getAttribute("src"), width: size("width"), height: size("height"), html };
  }
  function withLink(image) {
    const link = image.parentElement;
    return image.localName === "img" && link.localName === "a" && link.childNodes.length === 1 ? link : image;
  }
  function pack(html) {
    const page = parsed(html);
    const elements = [...page.querySelectorAll("table, hr, img")].filter((element) => !isInside(element)).map(withLink);
    for (const element of elements) {
      const figure = page.createElement("span");
      figure.dataset.trixAttachment = JSON.stringify(carried(element));
      element.replaceWith(figure);
    }
    return elements.length ? page.documentElement.outerHTML : html;
  }
  const composition = window.Trix.controllers.CompositionController.prototype;
  const { getSerializableElement } = composition;
  composition.getSerializableElement = function () {
    const root = getSerializableElement.call(this).cloneNode(true);
    for (const figure of root.querySelectorAll("figure[data-trix-attachment]")) {
      const { html, width } = JSON.parse(figure.dataset.trixAttachment);
      if (!html || figure.querySelector("figcaption")?.textContent) continue;
      const [element] = parsed(html).body.children;
      const image = element.localName === "a" ? element.firstElementChild : element;
      if (image.localName === "img" && image.width !== width && width) image.setAttribute("width", width);
      figure.replaceWith(element);
    }
    /* A table of its own needs no box. */
    for (const line of root.querySelectorAll(":scope > div")) {
      const isCarried = (node) => ["table", "hr"].includes(node.localName) || node.nodeType === Node.COMMENT_NODE;
      const nodes = [...line.childNodes].filter((node) => node.dataset?.trixSerialize !== "false");
      if (line.querySelector(":scope > :is(table, hr)") && nodes.every(isCarried)) line.replaceWith(...line.children);
    }
    return root;
  };
  const parser = window.Trix.models.HTMLParser.prototype;
  const { parse } = parser;
  parser.parse = function () {
    this.html = pack(this.html);
    return parse.call(this);
  };

  /* The theme's copy of Trix reads non-breaking spaces as ordinary ones. Only text that is opened has a reference. */
  const { processTextNode } = parser;
  parser.processTextNode = function (node) {
    if (!this.referenceElement || node.parentElement.closest("pre")) return processTextNode.call(this, node);
    const string = node.data.replace(/[^\S\u00a0]+/g, " ");
    const isAfterSpace = /[^\S\u00a0]$/.test(node.previousSibling?.textContent ?? "");
    return this.appendStringWithAttributes(isAfterSpace ? string.replace(/^ /, "") : string, this.getTextAttributes(node.parentNode));
  };

  /* The rest that an edit would remove. */
  const UNSUPPORTED = [
    ["[style], [align], [bgcolor], center", "colours, sizes or alignment"],
    ["sub, sup, small", "small, raised or lowered text"],
    ["figcaption", "captions of images"],
    ["a img", "links of images"],
  ];
  function warnOfLoss(editor, given, opened) {
    const [before, after] = [given, opened].map((html) => parsed(html).body);
    const lost = UNSUPPORTED.filter(([kind]) => before.querySelectorAll(kind).length > after.querySelectorAll(kind).length);
    if (!lost.length) return;
    const notice = Object.assign(document.createElement("p"), { className: "ob-notice ob-warn" });
    const kinds = lost.map(([, name]) => name).join("; ");
    notice.textContent = `The editor does not support these parts of the text: ${kinds}. Your first change of the text removes them.`;
    editor.before(notice);
  }

  /* Trix rewrites the HTML when it opens it and when an image has loaded. Unedited HTML is restored. */
  const withoutSizes = (html) => html.replace(/ (?:data-trix-attachment|width|height)="[^"]*"/g, "");
  document.addEventListener("trix-initialize", ({ target }) => {
    const input = target.inputElement;
    const given = target.defaultValue;
    const opened = withoutSizes(input.value);
    const restore = () => { if (withoutSizes(input.value) === opened) input.value = given; };
    warnOfLoss(target, given, input.value);
    restore();
    target.addEventListener("trix-change", restore);
    target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => {
      button.setAttribute("aria-label", button.title);
    });
    target.dataset.ready = "";
  }, { capture: true }); /* Before the inbox restores a draft. */
})();
