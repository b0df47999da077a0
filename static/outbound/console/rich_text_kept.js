/* Trix knows a few elements and drops the rest of a text. Here it carries the rest: the elements around each text and each
   block, with their attributes, and blocks that it cannot edit as attachments. docs/editor.md describes the ways. A classic
   script, directly after Trix. */
(function () {
  "use strict";

  const { config, models, views, controllers } = window.Trix;
  const INLINE = new Set("a b code del em i s small span strike strong sub sup u".split(" "));
  const CONTAINERS = new Set(["div", "center", "blockquote"]);
  const BLOCKS = new Set("blockquote center div figure h1 h2 h3 h4 h5 h6 hr ol p pre table ul".split(" "));
  const ATTRIBUTES = new Set(["style", "align", "dir", "lang", "title", "start", "href"]);
  const DISPLAYED = "alt bgcolor border cellpadding cellspacing colspan dir lang align rowspan start title valign".split(" ");
  /* The elements and the style that give a text each mark of Trix. */
  const MARKS = {
    bold: { tags: ["b", "strong"], style: "font-weight" },
    italic: { tags: ["i", "em"], style: "font-style" },
    underlined: { tags: ["u"], style: "text-decoration" },
    strike: { tags: ["del", "s", "strike"], style: "text-decoration" },
    href: { tags: ["a"] },
  };
  const CARRIED = "figure, table, hr, img, pre:has(:not(br)), :is(blockquote, center, div, h1, h2, h3, h4, h5, h6, p):empty";
  const CAPTION = { box: "margin: 0 0 16px", text: "color: #5b6770; font-size: 13px" };

  /* The sanitiser of Trix has one list of attributes for all editors. */
  new models.HTMLSanitizer("").allowedAttributes.push(...DISPLAYED);
  config.attachments.preview.caption = { name: false, size: false };
  config.attachments.preview.presentation = null;
  for (const level of [5, 6]) {
    config.blockAttributes[`heading${level}`] = { tagName: `h${level}`, breakOnReturn: true, group: false, terminal: true };
  }
  /* Only a box that differs from the plain block of Trix, which is a <div> too. */
  config.blockAttributes.box = { tagName: "div", breakOnReturn: true, test: (element) => "trixKept" in element.dataset };
  config.blockAttributes.center = { tagName: "center", breakOnReturn: true };
  config.textAttributes.kept = { inheritable: true };
  config.textAttributes.strike.parser = (element) => element.closest("s, strike") !== null;

  /* DOMParser runs no script and loads no image. */
  const parsed = (html) => new DOMParser().parseFromString(`<!doctype html><body>${html}`, "text/html");
  const inert = document.implementation.createHTMLDocument("");
  /* Trix writes the direction of each block down. */
  const isKept = (element, name) => ATTRIBUTES.has(name) && !(name === "dir" && "trixDirection" in element.dataset);
  const keptAttributes = (element) => [...element.attributes].filter(({ name }) => isKept(element, name));
  const attributesOf = (element) => Object.fromEntries(keptAttributes(element).map(({ name, value }) => [name, value]));
  function setAttributes(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (ATTRIBUTES.has(name) && !/^\s*(javascript|data|vbscript):/i.test(value)) element.setAttribute(name, value);
    }
  }

  /* The elements around a text. Marks of Trix that come from them are listed, so that removing a mark removes them. */
  const parser = models.HTMLParser.prototype;
  const { getTextAttributes } = parser;
  parser.getTextAttributes = function (element) {
    const { kept, ...attributes } = getTextAttributes.call(this, element);
    const around = [];
    let one = element.matches("[data-trix-attachment]") ? element.parentElement : element;
    for (; one !== this.containerElement && !this.isBlockElement(one); one = one.parentElement) {
      if (INLINE.has(one.localName)) around.unshift([one.localName, one.dataset.trixKept, attributesOf(one)]);
    }
    if (around.length) {
      attributes.kept = JSON.stringify({ around, marks: Object.keys(attributes).filter((name) => MARKS[name]) });
    }
    return attributes;
  };

  function surroundingElements({ around, marks }, attributes, isAttachment) {
    const removed = isAttachment ? [] : marks.filter((mark) => !(mark in attributes));
    return around.filter(([tag]) => INLINE.has(tag)).map(([tag, id, given]) => {
      const isRemoved = removed.some((mark) => MARKS[mark].tags.includes(tag));
      if (isRemoved && (tag === "a" || !given.style)) return null;
      const element = document.createElement(isRemoved ? "span" : tag);
      setAttributes(element, tag === "a" && attributes.href ? { ...given, href: attributes.href } : given);
      for (const mark of removed) if (MARKS[mark].style) element.style.removeProperty(MARKS[mark].style);
      if (element.localName === "span" && !element.getAttribute("style") && given.style) return null;
      if (id) element.dataset.trixKept = id;
      return element;
    }).filter(Boolean);
  }

  const piece = views.PieceView.prototype;
  const { createElement } = piece;
  piece.createElement = function () {
    if (!this.attributes.kept) return createElement.call(this);
    const { kept, ...attributes } = this.attributes;
    const given = JSON.parse(kept);
    const added = Object.entries(attributes).filter(([name]) => !given.marks.includes(name));
    const outer = createElement.call({ attributes: Object.fromEntries(added) });
    let innermost = outer;
    while (innermost?.firstElementChild) innermost = innermost.firstElementChild;
    const elements = surroundingElements(given, attributes, Boolean(this.attachment));
    return [innermost, ...elements].filter(Boolean).reduceRight((inner, element) => {
      if (inner) element.append(inner);
      return element === innermost ? outer : element;
    }, null);
  };
  /* A link that is carried is not drawn a second time. */
  const isKeptLink = (piece) => JSON.parse(piece.getAttribute("kept") ?? '{"marks":[]}').marks.includes("href");
  models.Piece.prototype.canBeGrouped = function () { return this.hasAttribute("href") && !isKeptLink(this); };
  const attachmentView = views.AttachmentView.prototype;
  const { getHref } = attachmentView;
  attachmentView.getHref = function () { return isKeptLink(this.attachmentPiece) ? undefined : getHref.call(this); };
  models.AttachmentPiece.permittedAttributes.push("kept");

  /* The attributes of the elements of a block, outermost first, with the identity of each element. */
  const { getBlockHTMLAttributes } = parser;
  parser.getBlockHTMLAttributes = function (element) {
    const levels = [];
    const add = (one) => levels.unshift({ id: one.dataset.trixKept, attributes: attributesOf(one) });
    for (let one = element; one && one !== this.containerElement; one = one.parentElement) {
      for (const attribute of Object.values(config.blockAttributes)) {
        if (attribute.parse === false || attribute.tagName !== one.localName || attribute.test?.(one) === false) continue;
        add(one);
        if (attribute.listAttribute) add(one.parentElement);
      }
    }
    const kept = levels.some(({ id }) => id) && { kept: JSON.stringify(levels) };
    return { ...getBlockHTMLAttributes.call(this, element), ...kept };
  };

  const block = models.Block.prototype;
  const keptLevels = (one) => JSON.parse(one.htmlAttributes.kept ?? "[]");
  const endsAt = (one, depth) => one.getAttributeLevel() === depth + 1;

  /* Trix merges neighbouring blocks of one kind into one element. That is right for parts of one element, and for list
     items, but it would join the texts of two paragraphs, quotes or code blocks. */
  const { canBeGroupedWith } = block;
  block.canBeGroupedWith = function (next, depth) {
    if (endsAt(this, depth) && endsAt(next, depth)) return false;
    const [id, nextId] = [this, next].map((one) => keptLevels(one)[depth]?.id);
    const isSameKind = this.getAttributeAtLevel(depth + 1) === next.getAttributeAtLevel(depth + 1);
    return id && nextId ? isSameKind && id === nextId : canBeGroupedWith.call(this, next, depth);
  };

  function equalLength(one, other, itemAt) {
    const most = Math.min(one.length, other.length);
    let length = 0;
    while (length < most && itemAt(one, length) === itemAt(other, length)) length += 1;
    return length;
  }
  /* The levels of a block whose attributes change: a new outer or inner level has none. A shorter block is a new element. */
  function movedLevels(levels, before, after) {
    const end = equalLength(before, after, (list, place) => list.at(-1 - place));
    const start = equalLength(before, after, (list, place) => list[place]);
    const isLonger = after.length > before.length;
    const [first, last] = isLonger ? [Math.min(start, before.length - end), end] : [start, Math.min(end, after.length - start)];
    const moved = after.map((_, place) => {
      const fromEnd = after.length - place;
      return (place < first ? levels[place] : fromEnd <= last && levels.at(-fromEnd)) || {};
    });
    if (!isLonger && moved.length) delete moved.at(-1).id;
    return moved;
  }
  const { copyWithAttributes } = block;
  block.copyWithAttributes = function (attributes) {
    const copy = copyWithAttributes.call(this, attributes);
    const { kept, ...others } = this.htmlAttributes;
    if (!kept) return copy;
    const levels = movedLevels(keptLevels(this), this.attributes, copy.attributes);
    copy.htmlAttributes = copy.attributes.length ? { ...others, kept: JSON.stringify(levels) } : others;
    return copy;
  };

  const blockView = views.BlockView.prototype;
  const { createContainerElement } = blockView;
  blockView.createContainerElement = function (depth) {
    const element = createContainerElement.call(this, depth);
    const { id, attributes = {} } = keptLevels(this.block)[depth] ?? {};
    setAttributes(element, attributes);
    if (id) element.dataset.trixKept = id;
    if (id && !attributes.dir) element.dataset.trixDirection = "";
    return element;
  };

  /* A new line in a list item with paragraphs is a new item. */
  const { insertBlockBreak } = models.Composition.prototype;
  models.Composition.prototype.insertBlockBreak = function () {
    insertBlockBreak.call(this);
    const made = this.getBlock();
    const levels = keptLevels(made);
    const item = made.attributes.findLastIndex((name) => config.blockAttributes[name].listAttribute);
    if (!levels[item]?.id || item === levels.length - 1) return;
    delete levels[item].id;
    const htmlAttributes = { ...made.htmlAttributes, kept: JSON.stringify(levels) };
    this.setDocument(this.document.replaceBlock(made, new models.Block(made.text, made.attributes, htmlAttributes)));
  };

  /* Attachments: images, and blocks that are shown but not edited. */
  const isAttachment = (element) => element.hasAttribute("data-trix-attachment");
  const isInside = (element) => element.parentElement.closest("table, figure, pre, [data-trix-attachment]") !== null;
  const hasOnly = (element, nodes) => [...element.childNodes].every((node) => nodes.includes(node) || !node.textContent.trim());
  function withLink(image) {
    const link = image.parentElement;
    return link.localName === "a" && hasOnly(link, [image]) ? link : image;
  }
  /* The image and the caption of a figure with plain text as caption. */
  function figureParts(figure) {
    const [images, caption] = [figure.querySelectorAll("img"), figure.querySelector("figcaption")];
    if (images.length !== 1 || caption?.children.length) return null;
    const isPlain = hasOnly(figure, [withLink(images[0]), caption]);
    return isPlain ? { image: images[0], caption: caption?.textContent.trim() } : null;
  }

  /* The data of an attachment. While a text is checked, its images are not loaded. */
  function attachmentData(element, isCheck) {
    const copy = inert.importNode(element, true);
    copy.querySelectorAll("[data-trix-attachment]").forEach(unpackAttachment);
    removeMarks(copy);
    const html = copy.outerHTML;
    const image = element.localName === "figure" ? figureParts(element)?.image : element.querySelector("img") ?? element;
    const isImage = image && (["a", "img"].includes(element.localName) || element.localName === "figure");
    if (!isImage || isCheck) return { contentType: "text/html", content: html, html };
    return { contentType: "image", url: image.getAttribute("src"), html };
  }
  function replaceByAttachment(element) {
    const holder = element.ownerDocument.createElement("span");
    const caption = element.localName === "figure" && figureParts(element)?.caption;
    holder.dataset.trixAttachment = JSON.stringify(attachmentData(element));
    if (caption) holder.dataset.trixAttributes = JSON.stringify({ caption });
    element.replaceWith(holder);
    return holder;
  }
  /* Trix takes an attachment between two blocks out of their box, unless it has a block of its own. */
  function giveBlock(holder) {
    const { parentElement: parent } = holder;
    if (parent.localName === "body" || ![...parent.children].some((one) => BLOCKS.has(one.localName))) return;
    const box = holder.previousElementSibling;
    if (box?.dataset.trixHolder === "" && !holder.previousSibling.data?.trim()) return box.append(holder);
    const line = holder.ownerDocument.createElement("div");
    line.dataset.trixHolder = "";
    holder.replaceWith(line);
    line.append(holder);
  }

  /* The same for an attachment that Trix has drawn, unless it stands beside text. */
  function giveOwnBlock(figure) {
    const isText = (node) => node?.nodeType === Node.TEXT_NODE || (INLINE.has(node?.localName) && !isAttachment(node));
    const around = [figure.previousSibling, figure.nextSibling];
    const { html = "<img>" } = JSON.parse(figure.dataset.trixAttachment);
    if (!/^<(?:a|img)\b/.test(html) && !around.some(isText)) giveBlock(figure);
  }

  let lastId = 0;
  function isPlainLine(element) {
    const neighbours = [element.previousElementSibling, element.nextElementSibling];
    return element.parentElement.localName === "body" && !keptAttributes(element).length
      && ![...element.children].some((one) => BLOCKS.has(one.localName))
      && !neighbours.some((one) => one?.localName === "div");
  }
  function markElements(body) {
    for (const element of body.querySelectorAll("*")) {
      if (isAttachment(element) || element.dataset.trixHolder === "") continue;
      if (element.localName === "div" && isPlainLine(element)) continue;
      lastId += 1;
      element.dataset.trixKept = lastId;
    }
  }
  const isRedrawn = (html) => /<\w+ [^>]*data-trix-(?:kept|id)=/.test(html);
  function pack(html, reference) {
    /* A figure would end its paragraph. */
    const { body } = parsed(isRedrawn(html) ? html.replace(/(<\/?)fig(?:ure|caption)\b/g, "$1span") : html);
    body.querySelectorAll("[data-trix-serialize=false]").forEach((one) => one.remove());
    for (const element of body.querySelectorAll(CARRIED)) {
      if (isAttachment(element) || isInside(element)) continue;
      if (element.localName === "img") replaceByAttachment(withLink(element));
      else giveBlock(replaceByAttachment(element));
    }
    if (isRedrawn(html)) body.querySelectorAll("[data-trix-attachment]").forEach(giveOwnBlock);
    else {
      markElements(body);
      if (!isUnchanged([...body.childNodes], reference)) [...body.children].forEach((one) => protectBlock(one, reference));
    }
    return body.innerHTML;
  }

  /* Blocks that would change are protected: Trix shows them and does not edit them. */
  function normalised(root) {
    const edges = /\s*(<\/?(?:blockquote|center|div|fig\w+|h\d|hr|li|ol|p|pre|table|ul)\b[^>]*>)\s*/g;
    const text = root.innerHTML.replace(/<!--block-->/g, "").replace(/(?:&nbsp;|\s)+/g, " ");
    return text.replace(edges, "$1").replace(/<br>(?=<\/(?:blockquote|center|div|h\d|li|p|pre)>)/g, "");
  }
  function isUnchanged(nodes, reference) {
    const root = inert.createElement("div");
    root.append(...nodes.map((node) => inert.importNode(node, true)));
    for (const holder of root.querySelectorAll("[data-trix-attachment]")) {
      const { html } = JSON.parse(holder.dataset.trixAttachment);
      holder.dataset.trixAttachment = JSON.stringify({ contentType: "text/html", content: html, html });
      delete holder.dataset.trixAttributes;
    }
    const one = new models.HTMLParser(root.innerHTML, { referenceElement: reference });
    parse.call(one);
    return normalised(unpacked(views.DocumentView.render(one.getDocument()))) === normalised(unpacked(root));
  }
  function protectBlock(element, reference) {
    if (isAttachment(element) || "trixHolder" in element.dataset || !BLOCKS.has(element.localName) || isUnchanged([element], reference)) return;
    const blocks = CONTAINERS.has(element.localName) ? [...element.children] : [];
    blocks.forEach((one) => protectBlock(one, reference));
    if (blocks.length && element.isConnected && isUnchanged([element], reference)) return;
    giveBlock(replaceByAttachment(element));
  }
  const { parse } = parser;
  parser.parse = function () {
    this.isRedrawn = isRedrawn(this.html);
    this.html = pack(this.html, this.referenceElement);
    return parse.call(this);
  };

  /* The way back. */
  function captioned(element, caption) {
    const parts = element.localName === "figure" ? figureParts(element) : null;
    if (parts) {
      if (caption === (parts.caption ?? "")) return element;
      if (caption && parts.caption) {
        element.querySelector("figcaption").textContent = caption;
        return element;
      }
      element = withLink(parts.image);
    }
    if (!caption) return element;
    const figure = inert.createElement("figure");
    const text = Object.assign(inert.createElement("figcaption"), { textContent: caption });
    figure.setAttribute("style", CAPTION.box);
    text.setAttribute("style", CAPTION.text);
    figure.append(element, text);
    return figure;
  }
  function unpackAttachment(holder) {
    const { html, url, width, content } = JSON.parse(holder.dataset.trixAttachment);
    if (!html && !url) return;
    let element = html ? parsed(html).body.firstElementChild : inert.createElement("img");
    if (!element) return;
    if (!html) {
      element.setAttribute("src", url);
      element.setAttribute("alt", "");
      if (width) element.setAttribute("width", width);
    }
    const caption = holder.querySelector("figcaption.attachment__caption");
    if (!content && caption) element = captioned(element, caption.textContent);
    holder.replaceWith(element);
  }
  const sameAttributes = (one, other) => {
    const [text, otherText] = [one, other].map((element) => JSON.stringify(attributesOf(element)));
    return text === otherText;
  };
  function belongTogether(one, next) {
    if (next?.nodeType !== Node.ELEMENT_NODE || next.localName !== one.localName) return false;
    if (!INLINE.has(one.localName) || isAttachment(one) || !sameAttributes(one, next)) return false;
    const [id, nextId] = [one.dataset.trixKept, next.dataset.trixKept];
    return id === nextId || ((!id || !nextId) && !keptAttributes(one).length);
  }
  function mergePieces(parent) {
    for (let one = parent.firstElementChild; one; one = one.nextElementSibling) {
      while (belongTogether(one, one.nextSibling)) {
        one.append(...one.nextSibling.childNodes);
        one.nextSibling.remove();
      }
      mergePieces(one);
    }
  }
  function removeMarks(root) {
    root.querySelectorAll("[data-trix-holder]").forEach((one) => one.replaceWith(...one.childNodes));
    for (const one of [root, ...root.querySelectorAll("[data-trix-kept], [data-trix-direction]")]) {
      one.removeAttribute("data-trix-kept");
      one.removeAttribute("data-trix-direction");
    }
  }
  function unpacked(element) {
    const root = inert.importNode(element, true);
    root.querySelectorAll("[data-trix-serialize=false]").forEach((one) => one.remove());
    mergePieces(root);
    const lines = root.querySelectorAll("div:not([data-trix-kept]), p");
    root.querySelectorAll("[data-trix-attachment]").forEach(unpackAttachment);
    root.querySelectorAll("[data-trix-direction]").forEach((one) => one.removeAttribute("dir"));
    /* Blocks need no box of their own. */
    for (const line of lines) {
      const nodes = [...line.childNodes].filter((node) => node.nodeType !== Node.COMMENT_NODE);
      if (nodes.length && nodes.every((node) => BLOCKS.has(node.localName))) line.replaceWith(...nodes);
    }
    removeMarks(root);
    return root;
  }
  const composition = controllers.CompositionController.prototype;
  const { getSerializableElement } = composition;
  composition.getSerializableElement = function () { return unpacked(getSerializableElement.call(this)); };

  /* An image is drawn as it is sent. */
  const preview = views.PreviewableAttachmentView.prototype;
  const { updateAttributesForImage } = preview;
  preview.updateAttributesForImage = function (image) {
    updateAttributesForImage.call(this, image);
    const given = parsed(this.attachment.getAttribute("html") ?? "").querySelector("img");
    if (!given) return;
    for (const name of ["width", "height", "style", "alt"]) {
      if (given.hasAttribute(name)) image.setAttribute(name, given.getAttribute(name));
      else image.removeAttribute(name);
    }
    image.dataset.trixStoreKey += `/${given.outerHTML}`;
  };

  /* Links in such blocks would leave the page. */
  document.addEventListener("click", (event) => {
    if (event.target.closest("trix-editor figure")) event.preventDefault();
  });

  /* Trix rewrites the HTML when it opens it. Unedited HTML is restored. */
  document.addEventListener("trix-initialize", ({ target }) => {
    const input = target.inputElement;
    const given = target.defaultValue;
    const opened = input.value;
    const restore = () => { if (input.value === opened) input.value = given; };
    restore();
    target.addEventListener("trix-change", restore);
  }, { capture: true }); /* Before the inbox restores a draft. */
})();
