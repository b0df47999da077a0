/* The composer, built on Unfold's Alpine and Trix. Its data is in the form's fields; the server validates it. */

const readJson = (id, otherwise) => {
  const found = document.getElementById(id);
  return found ? JSON.parse(found.textContent) : otherwise;
};
const parseJson = (text, otherwise) => {
  try { return JSON.parse(text) ?? otherwise; } catch { return otherwise; }
};
let lastKey = 0;
const key = () => ++lastKey;
const notifyChanged = () => document.body.dispatchEvent(new CustomEvent("composer-changed"));
document.addEventListener("logged-in", notifyChanged);
const COMPANY = /\{[{%][^}]*\bcompany\./;

/* The fields of the message's content. */
const contentFields = {
  editor: () => document.querySelector("trix-editor"),
  area: () => document.querySelector("textarea[name=text]"),
  subject: () => document.querySelector("input[name=subject]"),
  link: () => document.querySelector("input[name=link]"),
  rich: () => document.querySelector("input[name=body]")?.value ?? "",
};

/* Request JSON from the server. Returns { wrong } with a text for staff on failure. */
async function ask(address, form, signal) {
  try {
    const options = form ? { method: "POST", body: form, headers: { "X-CSRFToken": token() } } : {};
    const answer = await fetch(address, { credentials: "same-origin", signal, ...options });
    if (answer.redirected) {
      document.dispatchEvent(new CustomEvent("logged-out"));
      return { wrong: "You are logged out." };
    }
    const kind = answer.headers.get("content-type") ?? "";
    if (kind.includes("json")) return await answer.json();
    return { wrong: answer.status === 403 ? "You are not allowed to do this." : "This did not work. Try again." };
  } catch (wrong) {
    return { wrong: wrong.name === "AbortError" ? "" : "The console cannot be reached. Try again." };
  }
}
const token = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";

/* Images are uploaded when they are dropped; other files are refused. */
if (window.Trix) window.Trix.config.attachments.preview.caption = { name: false, size: false };
document.addEventListener("trix-before-initialize", () => {
  if (window.Trix) window.Trix.config.attachments.preview.caption = { name: false, size: false };
});
document.addEventListener("trix-file-accept", (event) => {
  const pictures = event.target.closest("[data-pictures]");
  if (!pictures || !event.file.type.startsWith("image/")) {
    event.preventDefault();
    if (pictures) showEditorError(event.target, "That file is not an image. Choose a PNG, JPEG, GIF or WebP file.");
  }
});
document.addEventListener("trix-attachment-add", async (event) => {
  const { attachment } = event;
  const pictures = event.target.closest("[data-pictures]");
  if (!attachment.file || !pictures) return;
  showEditorError(event.target, "");
  const form = new FormData();
  form.append("file", attachment.file);
  const { url, wrong } = await ask(pictures.dataset.pictures, form);
  if (url) attachment.setAttributes({ url });
  else {
    attachment.remove();
    showEditorError(event.target, wrong);
  }
});
function showEditorError(editor, sentence) {
  const holder = editor.closest("[data-pictures]");
  let says = holder.querySelector(".ob-error");
  if (!says) {
    says = Object.assign(document.createElement("p"), { className: "ob-error" });
    says.setAttribute("role", "alert");
    holder.append(says);
  }
  says.textContent = sentence;
}
document.addEventListener("trix-initialize", (event) => {
  event.target.setAttribute("aria-label", "Text");
  event.target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => {
    button.setAttribute("aria-label", button.title);
  });
});

function insertText(input, words) {
  const [start, end] = [input.selectionStart ?? input.value.length, input.selectionEnd ?? input.value.length];
  input.setRangeText(words, start, end, "end");
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
}

const sharedMethods = {
  get hasSubject() { return this.channel !== "in_app" || this.format === "announcement"; },
  changed() { notifyChanged(); },
  /* Disable the buttons against a second click; the server also recognises a repeated form. */
  submitted(event) {
    setTimeout(() => event.target.querySelectorAll("button[name=act], .ob-buttons button").forEach((button) => {
      button.disabled = true;
    }));
  },
  /* Enter in a text field must not press the form's first button. */
  stay(event) {
    if (event.target.matches("input:not([type=checkbox], [type=radio], [type=file])")) event.preventDefault();
  },
  carryOver(to) {
    const area = contentFields.area();
    const editor = contentFields.editor()?.editor;
    if (!area || !editor) return;
    if (to === "push" && !area.value.trim()) area.value = editor.getDocument().toString().trim();
    if (to !== "push" && !contentFields.rich() && area.value.trim()) editor.insertString(area.value);
  },
};
const withSharedMethods = (own) => Object.defineProperties(own, Object.getOwnPropertyDescriptors(sharedMethods));

document.addEventListener("alpine:init", () => {
  Alpine.data("composer", (channel = "", format = "") => withSharedMethods({
    channel, format, kind: "", toConfirm: "",
    init() {
      document.body.addEventListener("htmx:afterSettle", () => {
        const many = Number(document.querySelector("#review [data-confirm]")?.dataset.confirm ?? 0);
        this.toConfirm = many ? many.toLocaleString("en") : "";
      });
      const chosen = (name) => this.$root.querySelector(`[name=${name}]:checked`)?.value;
      this.channel = chosen("channel") ?? this.channel;
      this.format = chosen("format") ?? this.format;
      this.kind = chosen("send_type") ?? this.kind;
      this.$watch("channel", (to) => this.carryOver(to));
      this.$root.addEventListener("trix-change", () => this.changed());
      this.$nextTick(() => document.querySelector(".ob-error:not([style*=none])")?.scrollIntoView({ block: "center" }));
    },
  }));

  Alpine.data("oneComposer", (way) => withSharedMethods({
    way, aboutCompany: false,
    get channel() { return { chat: "in_app", announcement: "in_app" }[this.way] ?? this.way; },
    get format() { return this.channel === "in_app" ? this.way : ""; },
    init() {
      const look = () => {
        this.aboutCompany = [contentFields.rich(), contentFields.subject()?.value ?? "", contentFields.link()?.value ?? "", contentFields.area()?.value ?? ""].some((t) => COMPANY.test(t));
      };
      this.$watch("way", () => this.carryOver(this.channel));
      this.$root.addEventListener("trix-change", look);
      this.$root.addEventListener("input", look);
      this.$nextTick(look);
    },
  }));

  Alpine.data("pictureButton", () => ({
    taken(input) {
      [...input.files].forEach((file) => contentFields.editor().editor.insertFile(file));
      input.value = "";
    },
  }));

  Alpine.data("variableMenu", (target) => ({
    open: false, name: "first_name", fallback: "",
    insert() {
      const fallback = this.fallback.replaceAll('"', "").trim();
      const words = `{{ ${this.name}${fallback ? ` | default: "${fallback}"` : ""} }}`;
      this.open = false;
      this.fallback = "";
      if (target === "subject" || target === "link") return insertText(contentFields[target](), words);
      const area = contentFields.area();
      if (area && area.offsetParent) return insertText(area, words);
      contentFields.editor().editor.insertString(words);
      contentFields.editor().focus();
    },
  }));

  Alpine.data("preview", () => ({
    wide: true, words: "", foundFor: null, found: [], at: 0, refused: "", said: "", wrong: false, testing: false, asking: null,
    init() { this.wide = window.innerWidth >= 1024; },
    step(by) {
      if (!this.found.length) return this.look();
      this.at = (this.at + by + this.found.length) % this.found.length;
    },
    /* Debounced: a customer may have been chosen in the meantime, then the list stays closed. */
    typed() { if (this.words !== this.foundFor) this.look(); },
    async look() {
      this.asking?.abort();
      this.asking = new AbortController();
      const { people, wrong } = await ask(`${this.address("people")}?q=${encodeURIComponent(this.words)}`, null, this.asking.signal);
      this.refused = wrong ?? "";
      if (wrong) this.found = [];
      if (people) [this.found, this.at, this.foundFor] = [people, 0, this.words];
    },
    /* Enter chooses from the results for the current text, even if they have not arrived yet. */
    async enter() {
      for (let tries = 0; this.foundFor !== this.words && tries < 4; tries += 1) await this.look();
      if (this.foundFor === this.words) this.choose(this.found[this.at]);
    },
    choose(one) {
      if (!one) return;
      this.asking?.abort();
      this.$refs.customer.value = one.id;
      [this.words, this.foundFor, this.found] = [one.name, one.name, []];
      document.body.dispatchEvent(new CustomEvent("preview-as"));
    },
    address(page) { return document.getElementById("preview-shown").getAttribute("hx-post").replace(/preview\/$/, `${page}/`); },
    async test() {
      [this.testing, this.said, this.wrong] = [true, "Sending …", false];
      const { said, wrong } = await ask(this.address("test"), new FormData(document.getElementById("composer")));
      [this.testing, this.said, this.wrong] = [false, said ?? wrong, !said];
    },
  }));

  /* A search for one of many names. `take` receives the chosen one and returns the field's new text. */
  Alpine.data("nameSearch", (of, name, take, id) => ({
    id, typed: name, taken: name, offered: [], spot: 0, seenFor: null, none: "", looking: null,
    /* Debounced: a name may have been chosen in the meantime, then the list stays closed. */
    heard() { if (this.typed !== this.taken || this.seenFor !== null) this.look(); },
    async look() {
      this.looking?.abort();
      this.looking = new AbortController();
      const typed = this.typed;
      const words = new URLSearchParams({ kind: of, q: typed === this.taken ? "" : typed });
      const { names, wrong } = await ask(`${this.pages.names}?${words}`, null, this.looking.signal);
      if (wrong) [this.offered, this.none] = [[], wrong];
      if (!names) return;
      [this.offered, this.spot, this.seenFor] = [names, 0, typed];
      this.none = names.length ? "" : "No results.";
    },
    step(by) {
      if (!this.offered.length) return this.look();
      this.spot = (this.spot + by + this.offered.length) % this.offered.length;
    },
    /* Enter chooses from the results for the current text, even if they have not arrived yet. */
    async enter() {
      for (let tries = 0; this.seenFor !== this.typed && tries < 4; tries += 1) await this.look();
      if (this.seenFor === this.typed) this.chosen(this.offered[this.spot]);
    },
    chosen(one) {
      if (!one) return;
      this.typed = this.taken = take(one) ?? "";
      this.leave();
    },
    leave() {
      this.looking?.abort();
      [this.offered, this.seenFor, this.none, this.typed] = [[], null, "", this.taken];
    },
  }));

  const DAYS = [0, 1, 2, 3, 4, 5, 6];
  const halves = (clock) => Number(clock.slice(0, 2)) * 2 + (clock.slice(3) === "30" ? 1 : 0);
  const clock = (half) => `${String(Math.floor(half / 2)).padStart(2, "0")}:${half % 2 ? "30" : "00"}`;

  Alpine.data("deliveryWindow", () => ({
    rows: [], open: new Set(), focus: { day: 0, half: 18 }, brush: null, from: null,
    clock,
    init() {
      const stored = parseJson(this.$refs.stored.value, []);
      this.rows = (Array.isArray(stored) ? stored : []).map((row) => ({ ...row, key: key() }));
      this.look();
    },
    /* Compute the open half hours from the rows; a row over midnight continues on the next day. */
    look() {
      const open = new Set();
      this.rows.forEach(({ weekday, from, to }) => {
        const [start, end] = [halves(from), halves(to)];
        const length = end > start ? end - start : 48 - start + end;
        for (let n = 0; n < length; n += 1) {
          const at = weekday * 48 + start + n;
          open.add(at % 336);
        }
      });
      this.open = open;
    },
    isOpen(day, half) { return this.open.has(day * 48 + half); },
    /* Compute the rows from the painted half hours. */
    write() {
      this.rows = DAYS.flatMap((weekday) => {
        const spans = [];
        for (let half = 0; half < 48; half += 1) {
          if (!this.isOpen(weekday, half)) continue;
          const last = spans.at(-1);
          if (last && last.end === half) last.end += 1;
          else spans.push({ start: half, end: half + 1 });
        }
        return spans.map(({ start, end }) => ({ weekday, from: clock(start), to: end === 48 ? "24:00" : clock(end), key: key() }));
      });
      this.keep();
    },
    dab(day, half, on) {
      const open = new Set(this.open);
      if (on) open.add(day * 48 + half);
      else open.delete(day * 48 + half);
      this.open = open;
    },
    cellAt(event) {
      const found = document.elementFromPoint(event.clientX, event.clientY)?.closest(".ob-half");
      if (!found || !this.$refs.week.contains(found)) return null;
      return { day: Number(found.closest("[data-day]").dataset.day), half: Number(found.dataset.half) };
    },
    begin(event) {
      const cell = this.cellAt(event);
      if (!cell || event.button) return;
      event.preventDefault();
      this.brush = !this.isOpen(cell.day, cell.half);
      this.from = { ...cell, before: new Set(this.open) };
      this.focus = cell;
      this.paint(event);
    },
    /* Paint a rectangle from the pointer's start to its position. */
    paint(event) {
      if (this.brush === null) return;
      const cell = this.cellAt(event);
      if (!cell) return;
      const open = new Set(this.from.before);
      const span = (one, other) => [Math.min(one, other), Math.max(one, other)];
      const [firstDay, lastDay] = span(this.from.day, cell.day);
      const [first, last] = span(this.from.half, cell.half);
      for (let day = firstDay; day <= lastDay; day += 1) {
        for (let half = first; half <= last; half += 1) {
          if (this.brush) open.add(day * 48 + half);
          else open.delete(day * 48 + half);
        }
      }
      this.open = open;
    },
    /* The touch became a scroll. */
    cancel() {
      if (this.brush === null) return;
      this.open = this.from.before;
      this.brush = null;
    },
    end() {
      if (this.brush === null) return;
      this.brush = null;
      this.write();
    },
    keyed(event) {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -48], End: [0, 48] };
      const within = (value, most) => Math.max(0, Math.min(most, value));
      const { day, half } = this.focus;
      if (event.key === " " || event.key === "Enter") {
        event.preventDefault();
        this.dab(day, half, !this.isOpen(day, half));
        return this.write();
      }
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const [days, hours] = move;
      const on = this.isOpen(day, half);
      this.focus = { day: within(day + days, 6), half: within(half + hours, 47) };
      if (event.shiftKey) {
        this.dab(this.focus.day, this.focus.half, on);
        this.write();
      }
      this.$nextTick(() => this.$refs.week.querySelector(".ob-half[tabindex='0']")?.focus());
    },
    add() {
      const last = this.rows.at(-1);
      this.rows.push({
        weekday: last ? (last.weekday + 1) % 7 : 0, from: last?.from ?? "09:00", to: last?.to ?? "17:00", key: key(),
      });
      this.changed();
    },
    weekdays() {
      this.rows = [0, 1, 2, 3, 4].map((weekday) => ({ weekday, from: "09:00", to: "17:00", key: key() }));
      this.changed();
    },
    changed() {
      this.look();
      this.keep();
    },
    keep() {
      this.$refs.stored.value = JSON.stringify(this.rows.map(({ weekday, from, to }) => ({ weekday, from, to })));
      notifyChanged();
    },
  }));

  Alpine.data("ruleBuilder", () => ({
    offer: {}, tree: null, sentence: "", place: "", segmentName: "", segmentSaid: "", segmentWrong: false, asking: null, pages: {},
    init() {
      /* Inside a group, $root is the group. */
      this.pages = { ...this.$root.dataset };
      this.offer = readJson("rule-offer", { groups: [], operators: {}, choices: {}, segments: [] });
      this.kinds = Object.fromEntries(this.offer.groups.flatMap((g) => g.attributes.map((a) => [a.name, a.kind])));
      this.labels = Object.fromEntries(this.offer.groups.flatMap((g) => g.attributes.map((a) => [a.name, a.label])));
      this.sentence = readJson("rule-sentence", "");
      this.place = readJson("rule-place", "");
      this.tree = this.keyed(parseJson(this.$refs.stored.value, {}));
    },
    keyed(node) {
      if (node && Array.isArray(node.rules)) {
        return { ...node, match: node.match === "any" ? "any" : "all", rules: node.rules.map((r) => this.keyed(r)), key: key() };
      }
      if (node && node.attribute !== undefined) return { ...node, key: key() };
      return { match: "all", rules: [], key: key() };
    },
    plain({ key: _key, ...node }) {
      return node.rules ? { ...node, rules: node.rules.map((rule) => this.plain(rule)) } : node;
    },
    changed() {
      this.$refs.stored.value = JSON.stringify(this.plain(this.tree));
      this.sentence = this.place = "";
      notifyChanged();
    },
    /* Draw a group from the template; nested groups call this too. */
    draw(element) {
      const drawn = document.getElementById("rule-group").content.cloneNode(true);
      Alpine.mutateDom(() => element.append(drawn));
      /* Initialised explicitly, because Alpine is still walking the outer group and would miss it. */
      [...element.children].forEach((child) => Alpine.initTree(child));
    },
    at(path, index) { return path ? `${path}.${index + 1}` : `${index + 1}`; },
    wrong(path, index) { return Boolean(this.sentence) && this.place === this.at(path, index); },
    add(group) {
      group.rules.push({ attribute: "", operator: "", value: "", key: key() });
      this.changed();
    },
    addGroup(group) {
      const match = group.match === "all" ? "any" : "all";
      group.rules.push({ match, rules: [{ attribute: "", operator: "", value: "", key: key() }], key: key() });
      this.changed();
    },
    remove(group, index) {
      group.rules.splice(index, 1);
      this.changed();
    },
    options(select, node) {
      select.append(document.getElementById("attribute-options").content.cloneNode(true));
      if (node.attribute && !this.kinds[node.attribute]) {
        select.append(new Option(`${node.attribute} (unknown)`, node.attribute));
      }
      select.value = node.attribute;
    },
    kind(node) { return this.kinds[node.attribute]; },
    fitting(node) { return this.offer.operators[this.kind(node)] ?? []; },
    takes(node) {
      return node.attribute ? this.fitting(node).find((o) => o.name === node.operator)?.takes ?? "" : "";
    },
    choose(node, attribute) {
      const before = this.kind(node);
      node.attribute = attribute;
      if (this.kind(node) !== before) {
        node.operator = this.fitting(node)[0]?.name ?? "";
        node.value = "";
      }
      this.changed();
    },
    operate(node, operator) {
      const before = this.takes(node);
      node.operator = operator;
      if (this.takes(node) !== before) node.value = "";
      this.changed();
    },
    operators(select, node) {
      const fitting = this.fitting(node);
      select.replaceChildren(...fitting.map((o) => new Option(o.label, o.name)));
      select.value = node.operator;
    },
    names(select, node) {
      const choices = this.offer.choices[this.kind(node)] ?? [];
      select.replaceChildren(new Option("Choose one", ""), ...choices.map(([id, name]) => new Option(name, id)));
      if (node.value && !choices.some(([id]) => String(id) === String(node.value))) {
        select.append(new Option("(deleted)", node.value));
      }
      select.value = node.value ?? "";
    },
    /* Kinds with more names than a menu holds. */
    many(kind) { return this.offer.more?.includes(kind) ?? false; },
    searched(node) { return this.takes(node) === "choice" && this.many(this.kind(node)) ? [this.kind(node)] : []; },
    nameOf(node) {
      if (!node.value) return "";
      const known = (this.offer.choices[this.kind(node)] ?? []).find(([id]) => String(id) === String(node.value));
      return known ? known[1] : "(deleted)";
    },
    take(node, one) {
      const known = this.offer.choices[this.kind(node)];
      if (!known.some(([id]) => id === one.id)) known.push([one.id, one.name]);
      node.value = one.id;
      this.changed();
      return one.name;
    },
    picked(node, value) { return this.kind(node) === "role" || !value ? value : Number(value); },
    negatives(group) {
      const count = group.rules.filter((rule) => this.offer.negative?.includes(rule.operator)).length;
      return group.match === "any" && count > 1;
    },
    /* Suggest known values while typing. */
    async complete(node, field) {
      const list = document.getElementById(`values-${node.key}`);
      if (!list || !this.pages.values) return;
      this.asking?.abort();
      this.asking = new AbortController();
      const words = new URLSearchParams({ attribute: node.attribute, q: field.value });
      const { values } = await ask(`${this.pages.values}?${words}`, null, this.asking.signal);
      if (values) list.replaceChildren(...values.map((value) => new Option(value, value)));
    },
    async saveSegment() {
      const form = new FormData();
      form.append("name", this.segmentName);
      form.append("rules", this.$refs.stored.value);
      const { id, name, rules, wrong } = await ask(this.pages.segments, form);
      [this.segmentSaid, this.segmentWrong] = [id ? `The segment “${name}” is saved.` : wrong, !id];
      if (!id) return;
      this.segmentName = "";
      this.offer.segments.push({ id, name, rules });
      this.offer.choices.segment?.push([id, name]);
    },
    startFrom(select) {
      const segment = this.offer.segments.find((one) => String(one.id) === select.value);
      select.value = "";
      this.start(segment);
    },
    start(segment) {
      if (!segment) return;
      const copy = this.keyed(segment.rules);
      /* The page renders this tree object, so it is filled instead of replaced. */
      if (!this.tree.rules.length) Object.assign(this.tree, { match: copy.match, rules: copy.rules });
      else this.tree.rules.push(copy);
      this.changed();
    },
  }));
});
