// A message's HTML, made into elements one by one: only what is named here, and nothing that runs. No parser of the
// browser is asked, so neither a page's Content Security Policy nor its Trusted Types stand in the way.

const ELEMENTS = new Set(
  ("a b blockquote br caption center code del div em figcaption figure h1 h2 h3 h4 h5 h6 hr i img li ol p pre s small " +
    "span strike strong sub sup table tbody td tfoot th thead tr u ul").split(" "),
);
const ATTRIBUTES = new Set(
  "href src alt title width height align valign dir lang start colspan rowspan border cellpadding cellspacing".split(" "),
);
const EMPTY = new Set(["br", "hr", "img"]);
const ADDRESSES = { href: /^(https?:|mailto:|tel:)/i, src: /^https?:/i };
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const PIECES = /<!--[^]*?-->|<(\/?)([a-zA-Z][\w-]*)((?:[^"'<>]|"[^"]*"|'[^']*')*)>|([^<]+|<)/g;
const ATTRIBUTE = /([\w-]+)(?:="([^"]*)"|='([^']*)')?/g;

function unescaped(text) {
  return text.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (whole, number, hex, name) => {
    if (name) return ENTITIES[name.toLowerCase()] || whole;
    return attempt(() => String.fromCodePoint(hex ? parseInt(hex, 16) : Number(number)), "");
  });
}

function dress(element, attributes) {
  for (const [, name, double, single] of attributes.matchAll(ATTRIBUTE)) {
    const value = unescaped(double || single || "");
    if (name === "style") styled(element, value);
    else if (ATTRIBUTES.has(name) && (!ADDRESSES[name] || ADDRESSES[name].test(value.trim()))) {
      element.setAttribute(name, value);
    }
  }
  if (element.localName === "a") {
    element.target = "_blank";
    element.rel = "noopener noreferrer";
  }
}

// Colours were chosen on white paper, so they are worn where it is white (messenger.css).
const COLORS = { color: "--worn", background: "--worn-behind", "background-color": "--worn-behind" };

function styled(element, declarations) {
  for (const declaration of declarations.split(";")) {
    const at = declaration.indexOf(":");
    const value = declaration.slice(at + 1).trim();
    // An address in a style would load it; a position could lay the message over the page.
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

function rich(html) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const [, closing, tag, attributes, text] of String(html || "").matchAll(PIECES)) {
    const here = open[open.length - 1];
    if (text) {
      here.append(unescaped(text));
    } else if (tag && ELEMENTS.has(tag.toLowerCase())) {
      const name = tag.toLowerCase();
      if (closing) {
        const at = open.map((element) => element.localName).lastIndexOf(name);
        if (at > 0) open.length = at;
      } else {
        const element = document.createElement(name);
        dress(element, attributes);
        here.append(element);
        if (!EMPTY.has(name) && open.length < 100) open.push(element);
      }
    }
  }
  return root;
}
