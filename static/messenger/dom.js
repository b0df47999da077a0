// Building blocks of the panel and of announcements.
(function (messenger) {
  "use strict";

  const { attempt, sanitize } = messenger;
  const ICONS = {
    chat: "M12 3C6.8 3 3 6.4 3 10.8c0 2.4 1.2 4.5 3 5.9V21l4-2.5c.6.1 1.3.1 2 .1 5.2 0 9-3.4 9-7.8S17.2 3 12 3z",
    close: "M6 6l12 12M18 6L6 18",
    back: "M15 5l-7 7 7 7",
    send: "M4 12l16-8-6 16-3-7z",
    image: "M4 6h16v12H4zM4 16l5-5 4 4 3-3 4 4M9 9.5h.01",
    down: "M6 9l6 6 6-6",
  };
  const UNITS = [[60, "second"], [60, "minute"], [24, "hour"], [7, "day"]];

  function logProblem(problem) {
    attempt(() => console.warn("Outbound:", problem));
  }

  // Wrap a callback so that an error in it never reaches the page.
  function guarded(action) {
    return function (...given) {
      try {
        const result = action.apply(this, given);
        if (result && typeof result.catch === "function") result.catch(logProblem);
        return result;
      } catch (error) {
        return logProblem(error);
      }
    };
  }

  // Create an element. An attribute "on…" is an event handler; true sets a bare attribute; false and null set none.
  function createElement(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), guarded(value));
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  function createIcon(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", ICONS[name]);
    svg.append(path);
    return svg;
  }

  function createIconButton(label, icon, onclick) {
    return createElement("button", { type: "button", class: "plain", "aria-label": label, title: label, onclick }, createIcon(icon));
  }

  function createAvatar(sender) {
    const name = (sender && sender.name) || "";
    const initials = name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
    return createElement("span", { class: "avatar", "aria-hidden": "true" }, initials || createIcon("chat"));
  }

  function senderName(sender) {
    return (sender && sender.name) || "The team";
  }

  function createTime(seconds) {
    const moment = new Date(seconds * 1000);
    return createElement("time", { datetime: moment.toISOString(), title: moment.toLocaleString() }, relativeTime(moment));
  }

  function relativeTime(moment) {
    let past = Math.max(0, (Date.now() - moment) / 1000);
    if (past < 60) return "Just now";
    for (const [size, unit] of UNITS) {
      if (past < size) return new Intl.RelativeTimeFormat("en", { style: "short" }).format(-Math.floor(past), unit);
      past /= size;
    }
    return moment.toLocaleDateString([], { day: "numeric", month: "short" });
  }

  // The body and the attachments of one part of a conversation.
  function createBody(part, onLinkClick) {
    const body = createElement("div", { class: "body", lang: document.documentElement.lang || null }, sanitize(part.body));
    if (part.folded) {
      const folded = createElement("details", {}, createElement("summary", {}, "Quoted text"), sanitize(part.folded));
      body.append(folded);
    }
    for (const link of body.querySelectorAll("a")) {
      link.addEventListener("click", guarded(() => onLinkClick && onLinkClick(link.getAttribute("href"))));
    }
    for (const image of body.querySelectorAll("img")) {
      image.loading = "lazy";
      if (!image.alt) image.alt = ""; // without it, screen readers read the URL aloud
    }
    for (const file of part.attachments) {
      const isImage = /^image\//.test(file.content_type || "");
      const image = isImage && { src: file.url, alt: file.name || "Image", loading: "lazy", width: file.width, height: file.height };
      body.append(
        createElement(
          "a",
          { class: "file", href: file.url, target: "_blank", rel: "noopener noreferrer" },
          image ? createElement("img", image) : file.name,
        ),
      );
    }
    return body;
  }

  // Move the focus from the last element of a box to its first one, and back. Call it on Tab.
  function trapFocus(event, box) {
    const stops = [...box.querySelectorAll("button, a[href], textarea, input, summary, [tabindex='0']")].filter((stop) => stop.getClientRects().length);
    const at = stops.indexOf(messenger.shadow.activeElement);
    if (event.shiftKey ? at <= 0 : at === stops.length - 1) {
      event.preventDefault();
      stops[event.shiftKey ? stops.length - 1 : 0].focus();
    }
  }

  Object.assign(messenger, {
    logProblem, guarded, createElement, createIcon, createIconButton, createAvatar, senderName, createTime, relativeTime, createBody, trapFocus,
  });
})(messenger);
