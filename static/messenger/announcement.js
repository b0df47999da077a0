// An announcement: a dialog over the page, one at a time.

const announcement = make("dialog", { class: "announcement" });
outer.append(announcement);
let announced = null;
let openedAfter = 0;
announcement.addEventListener("cancel", guarded((event) => {
  event.preventDefault();
  endAnnouncement("dismissed");
}));
announcement.addEventListener("keydown", guarded((event) => {
  if (event.key === "Escape") {
    event.preventDefault();
    endAnnouncement("dismissed");
  }
  if (event.key === "Tab") keepWithin(event, announcement);
}));
announcement.addEventListener("click", guarded((event) => event.target === announcement && endAnnouncement("dismissed")));

function announce(message) {
  if (announced) return;
  appear();
  announced = message;
  const title = message.subject ? make("h2", { id: "title", class: "title", tabindex: "-1", dir: "auto" }, message.subject) : null;
  const from = make(title ? "p" : "h2", { id: "announcer", tabindex: "-1", class: title && "from" }, named(message.from));
  announcement.setAttribute("aria-labelledby", title ? "title" : "announcer");
  announcement.replaceChildren(
    make(
      "div",
      { class: "sheet" },
      make("div", { class: "head" }, avatar(message.from), from, button("Close", "close", () => endAnnouncement("dismissed"), { class: "plain" })),
      make(
        "div",
        { class: "scroll", tabindex: "0", role: "group", "aria-label": "Announcement", dir: "auto" },
        title,
        content({ body: message.body, attachments: [] }, (link) => mark(message.id, "clicked", { link })),
      ),
      make("div", { class: "foot" }, make("button", { type: "button", class: "begin", onclick: () => answerAnnouncement() }, "Write a reply")),
    ),
  );
  attempt(() => announcement.showModal());
  (title || from).focus();
  willBeSeen();
}

// Seen only where the page stays, before somebody's eyes, long enough for them to see it.
function willBeSeen() {
  clearTimeout(openedAfter);
  if (announced && !document.hidden && !seen.has(announced.id)) openedAfter = setTimeout(guarded(() => mark(announced.id, "opened")), 1000);
}
document.addEventListener("visibilitychange", guarded(willBeSeen));

function endAnnouncement(why) {
  const message = announced;
  if (!message) return;
  clearTimeout(openedAfter);
  announced = null;
  attempt(() => announcement.close());
  announcement.replaceChildren();
  if (why) mark(message.id, why);
  announceNext();
}

function answerAnnouncement() {
  const message = announced;
  const entry = conversations.find((one) => one.message === message.id);
  endAnnouncement(null);
  mark(message.id, "opened");
  open();
  showThread(entry ? entry.id : null);
}

function keepWithin(event, box) {
  const stops = [...box.querySelectorAll("button, a[href], textarea, input, [tabindex='0']")].filter((one) => one.getClientRects().length);
  const at = stops.indexOf(shadow.activeElement);
  if (event.shiftKey ? at <= 0 : at === stops.length - 1) {
    event.preventDefault();
    stops[event.shiftKey ? stops.length - 1 : 0].focus();
  }
}
