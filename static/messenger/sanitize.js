// Sanitizer: builds elements from a message's HTML, only from the allowlists below. It does not use the browser's
// parser, so neither a page's Content Security Policy nor Trusted Types block it.
(function (messenger) {
  "use strict";

  const { attempt } = messenger;
  const ELEMENTS = new Set(
    ("a b blockquote br caption center code del div em figcaption figure h1 h2 h3 h4 h5 h6 hr i img li ol p pre s small " +
      "span strike strong sub sup table tbody td tfoot th thead tr u ul").split(" "),
  );
  const ATTRIBUTES = new Set(
    "href src alt title width height align valign dir lang start colspan rowspan border cellpadding cellspacing".split(" "),
  );
  const VOID_ELEMENTS = new Set(["br", "hr", "img"]);
  const ALLOWED_URLS = { href: /^(https?:|mailto:|tel:)/i, src: /^https?:/i };
  const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
  const TOKEN = /<!--[^]*?-->|<(\/?)([a-zA-Z][\w-]*)((?:[^"'<>]|"[^"]*"|'[^']*')*)>|([^<]+|<)/g;
  const ATTRIBUTE = /([\w-]+)(?:="([^"]*)"|='([^']*)')?/g;
  // Authors chose colours for a white background, so they apply only in the light theme (messenger.css).
  const COLORS = { color: "--worn", background: "--worn-behind", "background-color": "--worn-behind" };

  function decodeEntities(text) {
    return text.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (entity, number, hex, name) => {
      if (name) return ENTITIES[name.toLowerCase()] || entity;
      return attempt(() => String.fromCodePoint(hex ? parseInt(hex, 16) : Number(number)), "");
    });
  }

  function setAttributes(element, attributes) {
    for (const [, name, double, single] of attributes.matchAll(ATTRIBUTE)) {
      const value = decodeEntities(double || single || "");
      if (name === "style") setStyle(element, value);
      else if (ATTRIBUTES.has(name) && (!ALLOWED_URLS[name] || ALLOWED_URLS[name].test(value.trim()))) {
        element.setAttribute(name, value);
      }
    }
    if (element.localName === "a") {
      element.target = "_blank";
      element.rel = "noopener noreferrer";
    }
  }

  function setStyle(element, declarations) {
    for (const declaration of declarations.split(";")) {
      const at = declaration.indexOf(":");
      const value = declaration.slice(at + 1).trim();
      // A URL in a style would be loaded; a position could lay the message over the page.
      if (at > 0 && !/url\(|image/i.test(value)) {
        const name = declaration.slice(0, at).trim().toLowerCase();
        if (COLORS[name]) {
          element.style.setProperty(COLORS[name], value);
          element.classList.add(COLORS[name].slice(2));
        } else if (!/^(position|inset|top|left|right|bottom|z-index|--)/.test(name)) {
          element.style.setProperty(name, value);
        }
      }
    }
  }

  // Return a fragment with the allowed part of the HTML.
  function sanitize(html) {
    const root = document.createDocumentFragment();
    const open = [root];
    for (const [, closing, tag, attributes, text] of String(html || "").matchAll(TOKEN)) {
      const parent = open[open.length - 1];
      if (text) {
        parent.append(decodeEntities(text));
      } else if (tag && ELEMENTS.has(tag.toLowerCase())) {
        const name = tag.toLowerCase();
        if (closing) {
          const at = open.map((element) => element.localName).lastIndexOf(name);
          if (at > 0) open.length = at;
        } else {
          const element = document.createElement(name);
          setAttributes(element, attributes);
          parent.append(element);
          if (!VOID_ELEMENTS.has(name) && open.length < 100) open.push(element);
        }
      }
    }
    return root;
  }

  Object.assign(messenger, { sanitize });
})(messenger);
