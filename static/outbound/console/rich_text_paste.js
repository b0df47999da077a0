/* Pasted HTML: the parts that a message can have, without the markup of Word, Google Docs, spreadsheets and mail programs. A
   notice below the editor names the parts that were not taken over. A classic script, like the other fixes for Trix. */
(function () {
  "use strict";

  const KEPT = new Set(("a b blockquote br code del div em h1 h2 h3 h4 h5 h6 hr i img li ol p pre s small strong sub sup span "
    + "table tbody td tfoot th thead tr u ul").split(" "));
  const REMOVED = new Set("colgroup head link meta noscript script style template title xml".split(" "));
  const NAMED = {
    "audio, embed, iframe, object, video": "videos and other embedded content",
    "button, input, select, textarea": "form fields",
    "canvas, svg": "drawings",
  };
  const BLOCKS = "blockquote, div, h1, h2, h3, h4, h5, h6, hr, li, ol, p, pre, table, ul";
  const ATTRIBUTES = { a: ["href"], img: ["src", "alt", "width"], ol: ["start"], td: ["colspan", "rowspan"], th: ["colspan", "rowspan"] };
  /* Colours of ordinary text and paper, which other programs write at each word. */
  const PLAIN_COLOURS = new Set(["black", "windowtext", "rgb(0, 0, 0)", "inherit", "initial", "currentcolor", "auto", ""]);
  const PLAIN_PAPER = new Set(["white", "window", "transparent", "rgb(255, 255, 255)", "rgba(0, 0, 0, 0)", "initial", "inherit", "none", ""]);
  const SIDES = ["border-top", "border-right", "border-bottom", "border-left"];
  const WEB = /^https?:\/\//i;

  /* Write the rules of the style sheets at their elements, as style sheets are removed. */
  function inlineSheets(page) {
    const own = new Map();
    for (const { textContent } of page.querySelectorAll("style")) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(textContent.replace(/<!--|-->/g, ""));
      for (const rule of sheet.cssRules) {
        if (!(rule instanceof CSSStyleRule)) continue;
        for (const element of page.body.querySelectorAll(rule.selectorText)) {
          if (!own.has(element)) own.set(element, new Set(element.style));
          for (const name of rule.style) {
            if (!own.get(element).has(name)) element.style.setProperty(name, rule.style.getPropertyValue(name));
          }
        }
      }
    }
  }

  /* Lists of Word are paragraphs with a typed mark; their level is in a style that browsers do not know. */
  function makeLists(body) {
    let open = [];
    let last = null;
    let first = "";
    for (const line of body.querySelectorAll("p, h1, h2, h3, h4, h5, h6")) {
      const [, list, given] = /mso-list:\s*(l\d+)\s+level(\d+)/i.exec(line.dataset.style ?? "") ?? [];
      if (!list) continue;
      const level = Number(given);
      const mark = [...line.querySelectorAll("span")].find((one) => /mso-list:\s*ignore/i.test(one.dataset.style ?? ""));
      const tag = /^\W?(?:\d+|[a-z]{1,4})[.)]/i.test(mark?.textContent.trim() ?? "") ? "ol" : "ul";
      mark?.remove();
      if (!last || line.previousElementSibling !== last || (level === 1 && list !== first)) open = [];
      if (!open.length) first = list;
      open.length = Math.min(open.length, level);
      while (open.length < level) {
        const made = body.ownerDocument.createElement(tag);
        if (open.length) (open.at(-1).lastElementChild ?? open.at(-1)).append(made);
        else {
          line.before(made);
          last = made;
        }
        open.push(made);
      }
      const item = body.ownerDocument.createElement("li");
      item.append(...line.childNodes);
      open.at(-1).append(item);
      line.remove();
    }
  }

  /* The elements for marks that a style or a tag gives, outermost first. */
  function marksOf(element) {
    const { style, localName } = element;
    const isLink = element.closest("a");
    const decoration = `${style.textDecoration} ${style.textDecorationLine}`;
    const isHeading = /^h\d$/.test(localName) || element.closest("h1, h2, h3, h4, h5, h6");
    const marks = [];
    if (!isHeading && (style.fontWeight === "bold" || Number(style.fontWeight) >= 600)) marks.push(["strong"]);
    if (style.fontStyle === "italic") marks.push(["em"]);
    if (!isLink && /underline/.test(decoration)) marks.push(["u"]);
    if (/line-through/.test(decoration)) marks.push(["del"]);
    if (/^(sub|super)$/.test(style.verticalAlign) && !/^(td|th|img)$/.test(localName)) marks.push([style.verticalAlign.slice(0, 3) === "sub" ? "sub" : "sup"]);
    const colour = (localName === "font" && element.getAttribute("color")) || style.color;
    const paper = style.backgroundColor || (PLAIN_PAPER.has(style.background) ? "" : style.background);
    const styles = [];
    if (!isLink && !PLAIN_COLOURS.has(colour) && colour !== "#000000") styles.push(`color: ${colour}`);
    if (!/^(td|th|p|div|li)$/.test(localName) && !PLAIN_PAPER.has(paper) && !/url/i.test(paper)) styles.push(`background-color: ${paper}`);
    if (styles.length) marks.push(["span", styles.join("; ")]);
    return marks;
  }

  /* The style of a block or a cell: its alignment, and a cell's background and borders. */
  function blockStyle(element) {
    const { style } = element;
    const styles = [];
    const alignment = style.textAlign || element.getAttribute("align");
    if (["center", "right", "justify"].includes(alignment)) styles.push(`text-align: ${alignment}`);
    if (/^(td|th)$/.test(element.localName)) {
      const paper = style.backgroundColor || element.getAttribute("bgcolor") || "";
      if (!PLAIN_PAPER.has(paper)) styles.push(`background-color: ${paper}`);
      const borders = style.border ? [["border", style.border]] : SIDES.map((side) => [side, style.getPropertyValue(side)]);
      for (const [name, value] of borders) {
        if (/solid|dashed|dotted|double/.test(value)) styles.push(`${name}: ${value.replace("windowtext", "black")}`);
      }
    }
    return styles.join("; ");
  }

  const tableStyle = ({ style }) => (style.borderCollapse === "collapse" ? "border-collapse: collapse" : "");

  function noteStyles(element, found) {
    const { style } = element;
    if (!element.textContent.trim()) return;
    const family = style.fontFamily || element.getAttribute("face");
    if (family) found.fonts.add(family);
    if (style.fontSize && !element.closest("h1, h2, h3, h4, h5, h6")) found.sizes.add(style.fontSize);
    if (/^[1-9]/.test(style.textIndent) || (/^(p|div)$/.test(element.localName) && /^[1-9]/.test(style.marginLeft))) found.dropped.add("indents");
  }

  function cleanImage(image, found) {
    const { width } = image.style;
    if (!WEB.test(image.getAttribute("src") ?? "")) {
      found.dropped.add("images that are not on the web (insert them with “Insert image”)");
      return image.remove();
    }
    const pixels = Number.parseInt(image.getAttribute("width") ?? width, 10);
    if (pixels) image.setAttribute("width", pixels);
    if (!image.hasAttribute("alt")) image.setAttribute("alt", "");
  }

  const unwrap = (element) => element.replaceWith(...element.childNodes);
  function wrapContent(element, marks) {
    let inner = element;
    const content = [...element.childNodes];
    for (const [tag, style] of marks) {
      const mark = element.ownerDocument.createElement(tag);
      if (style) mark.setAttribute("style", style);
      inner.append(mark);
      inner = mark;
    }
    if (inner !== element) inner.append(...content);
  }

  /* Elements with blocks inside are not kept, or cannot carry marks: their links and marks go to the text inside. */
  const STRUCTURE = `${BLOCKS}, caption, tbody, td, tfoot, th, thead, tr`;
  const hasBlock = (node) => node.nodeType === Node.ELEMENT_NODE && (node.matches(STRUCTURE) || node.querySelector(STRUCTURE) !== null);
  const INHERITED = ["color", "font-style", "font-weight", "text-align", "text-decoration-line"];
  const TAG_STYLES = {
    "b, strong": ["font-weight", "bold"], "em, i": ["font-style", "italic"], u: ["text-decoration-line", "underline"],
    "del, s, strike": ["text-decoration-line", "line-through"], "center, :is(div, tr)[align=center]": ["text-align", "center"],
    ":is(div, tr)[align=right]": ["text-align", "right"], ":is(div, tr)[align=justify]": ["text-align", "justify"],
  };
  /* Put neighbours without blocks into a copy of the element each. */
  function wrapTexts(parent, wrapper) {
    let open = null;
    for (const node of [...parent.childNodes]) {
      if (hasBlock(node)) {
        open = null;
        if (wrapper.localName === "a") wrapTexts(node, wrapper);
      } else if (open || node.textContent.trim() || node.querySelector?.("img") || node.localName === "img") {
        if (!open) node.before(open = wrapper.cloneNode());
        open.append(node);
      }
    }
  }
  function inheritedStyles(element) {
    const styles = new Map(INHERITED.map((name) => [name, element.style.getPropertyValue(name)]));
    const colour = element.localName === "font" && element.getAttribute("color");
    const given = Object.entries(TAG_STYLES).filter(([selector]) => element.matches(selector)).map(([, one]) => one);
    for (const [name, value] of colour ? [...given, ["color", colour]] : given) if (!styles.get(name)) styles.set(name, value);
    /* A list, a quote or a cell keeps its alignment itself. */
    if (element.matches("blockquote, h1, h2, h3, h4, h5, h6, li, ol, p, pre, td, th, ul")) styles.delete("text-align");
    return [...styles].filter(([, value]) => value);
  }
  function passMarksInside(body) {
    for (const element of body.querySelectorAll("*")) {
      if (!element.isConnected || !element.querySelector(STRUCTURE)) continue;
      if (element.localName === "a") {
        wrapTexts(element, element);
        unwrap(element);
        continue;
      }
      const styles = inheritedStyles(element);
      for (const child of [...element.children].filter(hasBlock)) {
        for (const [name, value] of styles) {
          const isOwn = child.style.getPropertyValue(name) || (name === "text-align" && (child.matches("[align], table")));
          if (!isOwn) child.style.setProperty(name, value);
        }
      }
      const span = element.ownerDocument.createElement("span");
      for (const [name, value] of styles) if (name !== "text-align") span.style.setProperty(name, value);
      if (span.style.length) wrapTexts(element, span);
    }
  }

  function cleanElement(element, found) {
    const name = element.localName;
    if (REMOVED.has(name) || /^(v|w|m):/.test(name)) {
      if (name.startsWith("v:")) found.dropped.add("drawings");
      if (name.startsWith("m:")) found.dropped.add("formulas");
      return element.remove();
    }
    const named = Object.entries(NAMED).find(([selector]) => element.matches(selector));
    if (named) {
      found.dropped.add(named[1]);
      return element.remove();
    }
    noteStyles(element, found);
    if (name === "img") cleanImage(element, found);
    if (!element.isConnected) return;
    const isBlock = element.matches(BLOCKS);
    const hasBlocks = element.querySelector(BLOCKS) !== null;
    /* Google Docs wraps everything in a <b> that is not bold. */
    const isFalseBold = /^(b|strong)$/.test(name) && (style(element, "normal") || style(element, "400"));
    const marks = hasBlocks ? [] : marksOf(element);
    const styles = name === "table" ? tableStyle(element) : isBlock || /^(td|th)$/.test(name) ? blockStyle(element) : "";
    const isDeadLink = name === "a" && !/^(https?:|mailto:|tel:)/i.test(element.getAttribute("href") ?? "");
    if (isDeadLink && element.getAttribute("href")) found.dropped.add("links inside the document");
    const given = (ATTRIBUTES[name] ?? []).map((one) => [one, element.getAttribute(one)]).filter(([, value]) => value !== null);
    const isRightToLeft = isBlock && element.getAttribute("dir") === "rtl";
    for (const { name: attribute } of [...element.attributes]) element.removeAttribute(attribute);
    given.forEach(([attribute, value]) => element.setAttribute(attribute, value));
    if (styles) element.setAttribute("style", styles);
    /* The cells of a spreadsheet have space around their text by themselves. */
    if (name === "table") element.setAttribute("cellpadding", "4");
    if (isRightToLeft) element.setAttribute("dir", "rtl");
    if (!/^(br|hr|img|table|tbody|thead|tfoot|tr|ul|ol)$/.test(name)) wrapContent(element, marks);
    const isBox = name === "div" && (hasBlocks || (element.parentElement.matches("td, th, li") && element.parentElement.children.length === 1));
    if (!KEPT.has(name) || name === "span" || isBox || isFalseBold || isDeadLink || (hasBlocks && !isBlock && !/^(table|tbody|thead|tfoot|tr|td|th)$/.test(name))) unwrap(element);
  }
  const style = (element, weight) => element.style.fontWeight === weight;

  const spaceAtStart = /^[ \t\r\n]+/;
  const spaceAtEnd = /[ \t\r\n]+$/;
  function trimEdges(block) {
    block.normalize();
    for (const [node, edge] of [[block.firstChild, spaceAtStart], [block.lastChild, spaceAtEnd]]) {
      if (node?.nodeType === Node.TEXT_NODE && block.localName !== "pre") node.data = node.data.replace(edge, "");
    }
    if (!/^(table|tbody|tr|ul|ol)$/.test(block.localName)) return;
    for (const node of [...block.childNodes]) if (node.nodeType === Node.TEXT_NODE && !node.data.trim()) node.remove();
  }
  function tidy(body) {
    /* A single paragraph in a list item or a cell is its text. */
    for (const line of body.querySelectorAll("li > p, td > p, th > p")) {
      const isOnly = [...line.parentElement.childNodes].every((one) => one === line || !one.textContent.trim() || /^[uo]l$/.test(one.localName));
      if (isOnly && !line.hasAttribute("style")) unwrap(line);
    }
    while (body.lastChild && (body.lastChild.localName === "br" || body.lastChild.data?.trim() === "")) body.lastChild.remove();
    for (const block of body.querySelectorAll(`${BLOCKS}, td, th, tr, tbody`)) trimEdges(block);
    for (const line of body.querySelectorAll("p, h1, h2, h3, h4, h5, h6")) {
      const isEmpty = !line.textContent.trim() && !line.querySelector("img, br");
      if (isEmpty && line.localName !== "p") line.remove();
      else if (isEmpty) line.innerHTML = "<br>";
    }
    body.querySelectorAll("a, b, strong, em, i, u, del, s, span, sub, sup").forEach((one) => {
      if (!one.textContent && !one.children.length) one.remove();
    });
    body.querySelectorAll("ul > :is(ul, ol), ol > :is(ul, ol)").forEach((list) => list.previousElementSibling?.append(list));
    body.normalize();
  }

  /* Return the HTML to insert, and names for the parts that it has not. */
  function cleanPaste(html) {
    const page = new DOMParser().parseFromString(html, "text/html");
    const { body } = page;
    for (const element of body.querySelectorAll("[style]")) element.dataset.style = element.getAttribute("style");
    body.querySelectorAll("br.Apple-interchange-newline").forEach((one) => one.remove());
    inlineSheets(page);
    makeLists(body);
    passMarksInside(body);
    const found = { fonts: new Set(), sizes: new Set(), dropped: new Set() };
    const comments = page.createTreeWalker(body, NodeFilter.SHOW_COMMENT);
    const notes = [];
    while (comments.nextNode()) notes.push(comments.currentNode);
    notes.forEach((one) => one.remove());
    /* Children first: a mark of an outer element goes around those of inner ones. */
    for (const element of [...body.querySelectorAll("*")].reverse()) if (element.isConnected) cleanElement(element, found);
    tidy(body);
    const dropped = [...(found.fonts.size ? ["fonts"] : []), ...(found.sizes.size > 1 ? ["text sizes"] : []), ...found.dropped];
    return { html: body.innerHTML.trim(), dropped };
  }

  function showDropped(editor, dropped) {
    const box = editor.closest(".ob-rich") ?? editor.parentElement;
    let notice = box.querySelector(".ob-pasted");
    if (!notice) {
      notice = Object.assign(document.createElement("p"), { className: "ob-help ob-pasted" });
      notice.setAttribute("role", "status");
      box.append(notice);
    }
    notice.textContent = dropped.length ? `Not taken over: ${dropped.join(", ")}.` : "";
  }

  document.addEventListener("trix-before-paste", ({ paste, target }) => {
    /* Text of an editor needs no cleaning. */
    const isForeign = paste.type === "text/html" && !paste.html.includes("<!--outbound-->");
    const { html, dropped } = isForeign ? cleanPaste(paste.html) : { html: paste.html, dropped: [] };
    paste.html = html;
    showDropped(target, dropped);
  });
})();
