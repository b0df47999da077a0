/* The composer, on the Alpine and Trix that Unfold ships. What it keeps is in the form's own fields; the server judges. */

const json = (id, otherwise) => {
  const found = document.getElementById(id);
  return found ? JSON.parse(found.textContent) : otherwise;
};
const parsed = (text, otherwise) => {
  try { return JSON.parse(text) ?? otherwise; } catch { return otherwise; }
};
let lastKey = 0;
const key = () => ++lastKey;
const tell = () => document.body.dispatchEvent(new CustomEvent("composer-changed"));
const COMPANY = /\{[{%][^}]*\bcompany\./;

/* The page's text, wherever it is typed. */
const text = {
  editor: () => document.querySelector("trix-editor"),
  area: () => document.querySelector("textarea[name=text]"),
  subject: () => document.querySelector("input[name=subject]"),
  rich: () => document.querySelector("input[name=body]")?.value ?? "",
};

/* Files have no place in a message yet. */
document.addEventListener("trix-file-accept", (event) => event.preventDefault());
/* Trix writes the text anew when it opens it; what nobody edited stays as it was. */
document.addEventListener("trix-initialize", (event) => {
  const input = event.target.inputElement;
  if (input && input.defaultValue) input.value = input.defaultValue;
  event.target.setAttribute("aria-label", "Text");
  event.target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => {
    button.setAttribute("aria-label", button.title);
  });
});

function between(input, words) {
  const [start, end] = [input.selectionStart ?? input.value.length, input.selectionEnd ?? input.value.length];
  input.setRangeText(words, start, end, "end");
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
}

const shared = {
  get hasSubject() { return this.channel !== "in_app" || this.format === "announcement"; },
  changed() { tell(); },
  /* A second click finds the buttons asleep; the server would also know the form again. */
  submitted(event) {
    setTimeout(() => event.target.querySelectorAll("button[name=act], .ob-buttons button").forEach((button) => {
      button.disabled = true;
    }));
  },
  carryOver(to) {
    const area = text.area();
    const editor = text.editor()?.editor;
    if (!area || !editor) return;
    if (to === "push" && !area.value.trim()) area.value = editor.getDocument().toString().trim();
    if (to !== "push" && !text.rich() && area.value.trim()) editor.insertString(area.value);
  },
};
const withShared = (own) => Object.defineProperties(own, Object.getOwnPropertyDescriptors(shared));

document.addEventListener("alpine:init", () => {
  Alpine.data("composer", (channel = "", format = "") => withShared({
    channel, format, kind: "",
    init() {
      const chosen = (name) => this.$root.querySelector(`[name=${name}]:checked`)?.value;
      this.channel = chosen("channel") ?? this.channel;
      this.format = chosen("format") ?? this.format;
      this.kind = chosen("send_type") ?? this.kind;
      this.$watch("channel", (to) => this.carryOver(to));
      this.$root.addEventListener("trix-change", () => this.changed());
      this.$nextTick(() => document.querySelector(".ob-error:not([style*=none])")?.scrollIntoView({ block: "center" }));
    },
  }));

  Alpine.data("oneComposer", (way) => withShared({
    way, aboutCompany: false,
    get channel() { return { chat: "in_app", announcement: "in_app" }[this.way] ?? this.way; },
    get format() { return this.channel === "in_app" ? this.way : ""; },
    init() {
      const look = () => {
        this.aboutCompany = [text.rich(), text.subject()?.value ?? "", text.area()?.value ?? ""].some((t) => COMPANY.test(t));
      };
      this.$watch("way", () => this.carryOver(this.channel));
      this.$root.addEventListener("trix-change", look);
      this.$root.addEventListener("input", look);
      this.$nextTick(look);
    },
  }));

  Alpine.data("variableMenu", (target) => ({
    open: false, name: "first_name", fallback: "",
    insert() {
      const fallback = this.fallback.replaceAll('"', "").trim();
      const words = `{{ ${this.name}${fallback ? ` | default: "${fallback}"` : ""} }}`;
      this.open = false;
      this.fallback = "";
      if (target === "subject") return between(text.subject(), words);
      const area = text.area();
      if (area && area.offsetParent) return between(area, words);
      text.editor().editor.insertString(words);
      text.editor().focus();
    },
  }));

  Alpine.data("deliveryWindow", () => ({
    rows: [],
    init() {
      const stored = parsed(this.$refs.stored.value, []);
      this.rows = (Array.isArray(stored) ? stored : []).map((row) => ({ ...row, key: key() }));
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
      this.$refs.stored.value = JSON.stringify(this.rows.map(({ weekday, from, to }) => ({ weekday, from, to })));
      tell();
    },
  }));

  Alpine.data("ruleBuilder", () => ({
    offer: {}, tree: null, sentence: "", place: "",
    init() {
      this.offer = json("rule-offer", { groups: [], operators: {}, choices: {}, segments: [] });
      this.kinds = Object.fromEntries(this.offer.groups.flatMap((g) => g.attributes.map((a) => [a.name, a.kind])));
      this.labels = Object.fromEntries(this.offer.groups.flatMap((g) => g.attributes.map((a) => [a.name, a.label])));
      this.sentence = json("rule-sentence", "");
      this.place = json("rule-place", "");
      this.tree = this.keyed(parsed(this.$refs.stored.value, {}));
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
      tell();
    },
    /* A group draws itself from the template, and the groups in it do the same. */
    draw(element) {
      const drawn = document.getElementById("rule-group").content.cloneNode(true);
      Alpine.mutateDom(() => element.append(drawn));
      /* By hand: inside a group Alpine is still at work when this runs, and would not notice. */
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
        select.append(new Option(`${node.attribute} (not known)`, node.attribute));
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
        select.append(new Option("One that is gone", node.value));
      }
      select.value = node.value ?? "";
    },
    picked(node, value) { return this.kind(node) === "role" || !value ? value : Number(value); },
    negatives(group) {
      const count = group.rules.filter((rule) => this.offer.negative?.includes(rule.operator)).length;
      return group.match === "any" && count > 1;
    },
    startFrom(select) {
      const segment = this.offer.segments.find((one) => String(one.id) === select.value);
      select.value = "";
      if (!segment) return;
      const copy = this.keyed(segment.rules);
      if (!this.tree.rules.length) this.tree = copy;
      else this.tree.rules.push(copy);
      this.changed();
    },
  }));
});
