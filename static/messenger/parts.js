// The pieces the panel and the announcement are made of.

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), guarded(value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Whatever goes wrong here stays here: no page breaks for its messenger.
function guarded(action) {
  return function (...given) {
    try {
      const done = action.apply(this, given);
      if (done && typeof done.catch === "function") done.catch(complain);
      return done;
    } catch (error) {
      return complain(error);
    }
  };
}

function complain(problem) {
  attempt(() => console.warn("Outbound:", problem));
}

const DRAWN = {
  chat: "M12 3C6.8 3 3 6.4 3 10.8c0 2.4 1.2 4.5 3 5.9V21l4-2.5c.6.1 1.3.1 2 .1 5.2 0 9-3.4 9-7.8S17.2 3 12 3z",
  close: "M6 6l12 12M18 6L6 18",
  back: "M15 5l-7 7 7 7",
  send: "M4 12l16-8-6 16-3-7z",
  image: "M4 6h16v12H4zM4 16l5-5 4 4 3-3 4 4M9 9.5h.01",
  down: "M6 9l6 6 6-6",
};

function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  line.setAttribute("d", DRAWN[name]);
  drawing.append(line);
  return drawing;
}

function button(label, picture, onclick, more) {
  return make("button", { type: "button", "aria-label": label, title: label, onclick, ...more }, icon(picture));
}

function avatar(from) {
  const name = (from && from.name) || "";
  const initials = name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
  return make("span", { class: "avatar", "aria-hidden": "true" }, initials || icon("chat"));
}

function named(from) {
  return (from && from.name) || "The team";
}

const SPANS = [[60, "second"], [60, "minute"], [24, "hour"], [7, "day"]];

function ago(seconds) {
  const moment = new Date(seconds * 1000);
  return make("time", { datetime: moment.toISOString(), title: moment.toLocaleString() }, since(moment));
}

function since(moment) {
  let past = Math.max(0, (Date.now() - moment) / 1000);
  let text = moment.toLocaleDateString([], { day: "numeric", month: "short" });
  if (past < 60) {
    text = "Just now";
  } else {
    for (const [many, unit] of SPANS) {
      if (past < many) {
        text = new Intl.RelativeTimeFormat("en", { style: "short" }).format(-Math.floor(past), unit);
        break;
      }
      past /= many;
    }
  }
  return text;
}

function content(part, onclick) {
  const body = make("div", { class: "body", lang: document.documentElement.lang || null }, rich(part.body));
  for (const link of body.querySelectorAll("a")) link.addEventListener("click", guarded(() => onclick && onclick(link.getAttribute("href"))));
  for (const picture of body.querySelectorAll("img")) {
    picture.loading = "lazy";
    if (!picture.alt) picture.alt = ""; // else its address is read out
  }
  for (const file of part.attachments) {
    const isImage = /^image\//.test(file.content_type || "");
    const shown = isImage ? make("img", { src: file.url, alt: file.name || "Image", loading: "lazy", width: file.width, height: file.height }) : file.name;
    body.append(make("a", { class: "file", href: file.url, target: "_blank", rel: "noopener noreferrer" }, shown));
  }
  return body;
}
