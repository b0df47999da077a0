/* The rule builder (console/rules.html). Its tree is stored as JSON in a hidden field; the server validates it. */
import { eventName } from "./attribute_picker.js";
import { fetchJson, nextKey, notifyChanged, parseJson, readJson } from "./page.js";

const withKeys = (node) => {
  if (node && Array.isArray(node.rules)) {
    return { ...node, match: node.match ?? "all", rules: node.rules.map(withKeys), key: nextKey() };
  }
  if (node && node.attribute !== undefined) return { ...node, key: nextKey() };
  return { match: "all", rules: [], key: nextKey() };
};
const withoutKeys = ({ key: _key, ...node }) => (node.rules ? { ...node, rules: node.rules.map(withoutKeys) } : node);
const emptyRule = () => ({ attribute: "", operator: "", value: "", key: nextKey() });

export const ruleBuilder = () => ({
  offer: {}, kinds: {}, pages: {}, tree: null, error: "", errorPath: "",
  segmentName: "", segmentMessage: "", segmentFailed: false, request: null, meant: {},

  init() {
    /* Inside a group, $root is the group. */
    this.pages = { ...this.$root.dataset };
    this.offer = readJson("rule-offer", { groups: [], operators: {}, choices: {}, segments: [] });
    this.kinds = Object.fromEntries(this.offer.groups.flatMap((group) => group.attributes.map((a) => [a.name, a])));
    this.error = readJson("rule-sentence", "");
    this.errorPath = readJson("rule-place", "");
    this.tree = withKeys(parseJson(this.$refs.stored.value, {}));
  },

  rulesChanged() {
    this.$refs.stored.value = JSON.stringify(withoutKeys(this.tree));
    this.error = this.errorPath = "";
    notifyChanged();
  },

  /* Draw a group from the template; nested groups call this too. */
  drawGroup(element) {
    const { Alpine } = window;
    const drawn = document.getElementById("rule-group").content.cloneNode(true);
    Alpine.mutateDom(() => element.append(drawn));
    /* Initialised explicitly, because Alpine is still walking the outer group and would miss it. */
    [...element.children].forEach((child) => Alpine.initTree(child));
  },

  pathOf(path, index) { return path ? `${path}.${index + 1}` : `${index + 1}`; },
  hasError(path, index) { return Boolean(this.error) && this.errorPath === this.pathOf(path, index); },

  addRule(group) {
    const rule = emptyRule();
    group.rules.push(rule);
    this.rulesChanged();
    this.focusAttribute(rule);
  },
  focusAttribute({ key }) { this.$nextTick(() => document.getElementById(`attribute-${key}`)?.focus()); },
  /* "Only new matches" is a field of ongoing messages. */
  onlyNewField() { return document.querySelector("input[name=only_new_matches]"); },
  offeredPresets() { return (this.offer.presets ?? []).filter(({ onlyNew }) => !onlyNew || this.onlyNewField()); },
  addPreset({ rules, onlyNew }) {
    const added = rules.map(withKeys);
    if (this.tree.rules.length && this.tree.match !== "all") {
      this.tree.rules = [{ match: this.tree.match, rules: this.tree.rules, key: nextKey() }];
      this.tree.match = "all";
    }
    this.tree.rules.push(...added);
    if (onlyNew) this.onlyNewField().checked = true;
    this.rulesChanged();
  },
  addGroup(group) {
    const rule = emptyRule();
    group.rules.push({ match: group.match === "all" ? "any" : "all", rules: [rule], key: nextKey() });
    this.rulesChanged();
    this.focusAttribute(rule);
  },
  removeNode(group, index) {
    group.rules.splice(index, 1);
    this.rulesChanged();
  },

  /* An event that has not arrived yet has the prefix of its attribute, and a name that staff typed. */
  eventAttributeOf(node) { return this.offer.eventAttributes?.find(({ prefix }) => node.attribute.startsWith(prefix)); },
  kindOf(node) { return this.kinds[node.attribute]?.kind ?? this.eventAttributeOf(node)?.kind; },
  labelOf(node) {
    if (!node.attribute) return "";
    const event = this.eventAttributeOf(node);
    const unknown = event ? event.label.replace("{}", node.attribute.slice(event.prefix.length)) : `${node.attribute} (unknown)`;
    return this.kinds[node.attribute]?.label ?? unknown;
  },
  isUnknownEvent(node) {
    const event = node.attribute && this.eventAttributeOf(node);
    return Boolean(event) && !this.offer.knownEvents.includes(eventName(node.attribute.slice(event.prefix.length)));
  },
  operatorsOf(node) { return this.offer.operators[this.kindOf(node)] ?? []; },
  /* The kind of value that the rule's operator takes; empty for an operator without a value. */
  valueKind(node) {
    return node.attribute ? this.operatorsOf(node).find(({ name }) => name === node.operator)?.takes ?? "" : "";
  },

  chooseAttribute(node, attribute) {
    const kindBefore = this.kindOf(node);
    delete this.meant[node.key];
    node.attribute = attribute;
    if (this.kindOf(node) !== kindBefore) {
      /* A preset has chosen the operator of its event already. */
      if (!this.operatorsOf(node).some(({ name }) => name === node.operator)) {
        node.operator = this.operatorsOf(node)[0]?.name ?? "";
      }
      node.value = "";
    }
    this.rulesChanged();
  },
  chooseOperator(node, operator) {
    const kindBefore = this.valueKind(node);
    node.operator = operator;
    if (this.valueKind(node) !== kindBefore) node.value = "";
    this.rulesChanged();
  },
  setName(node, result) {
    const names = this.offer.choices[this.kindOf(node)];
    if (!names.some(([id]) => id === result.id)) names.push([result.id, result.name]);
    node.value = result.id;
    this.rulesChanged();
    return result.name;
  },

  fillOperators(select, node) {
    select.replaceChildren(...this.operatorsOf(node).map(({ label, name }) => new Option(label, name)));
    select.value = node.operator;
  },
  fillNames(select, node) {
    const names = this.offer.choices[this.kindOf(node)] ?? [];
    select.replaceChildren(new Option("Choose one", ""), ...names.map(([id, name]) => new Option(name, id)));
    if (node.value && !names.some(([id]) => String(id) === String(node.value))) {
      select.append(new Option("(deleted)", node.value));
    }
    select.value = node.value ?? "";
  },

  /* Kinds with more names than a menu holds are searched. */
  isSearched(kind) { return this.offer.more?.includes(kind) ?? false; },
  searchedKinds(node) {
    const kind = this.kindOf(node);
    return this.valueKind(node) === "choice" && this.isSearched(kind) ? [kind] : [];
  },
  nameOf(node) {
    if (!node.value) return "";
    const entry = (this.offer.choices[this.kindOf(node)] ?? []).find(([id]) => String(id) === String(node.value));
    return entry ? entry[1] : "(deleted)";
  },
  choiceValue(node, value) { return this.kindOf(node) === "role" || !value ? value : Number(value); },
  joinsNegativesByOr(group) {
    const count = group.rules.filter((rule) => this.offer.negative?.includes(rule.operator)).length;
    return group.match === "any" && count > 1;
  },

  /* Suggest known values while typing. */
  async suggestValues(node, field) {
    const list = document.getElementById(`values-${node.key}`);
    if (!list || !this.pages.values) return;
    this.request?.abort();
    this.request = new AbortController();
    const query = new URLSearchParams({ attribute: node.attribute, q: field.value });
    const { values } = await fetchJson(`${this.pages.values}?${query}`, { signal: this.request.signal });
    if (values) list.replaceChildren(...values.map((value) => new Option(value, value)));
  },

  /* "plan is Pro" matches nobody if all have "pro". */
  async suggestMeant(node) {
    delete this.meant[node.key];
    if (!["is", "is_not"].includes(node.operator) || !node.value || !this.pages.values) return;
    const query = new URLSearchParams({ attribute: node.attribute, is: node.value });
    const { meant } = await fetchJson(`${this.pages.values}?${query}`);
    if (meant) this.meant[node.key] = meant;
  },
  takeMeant(node) {
    node.value = this.meant[node.key];
    delete this.meant[node.key];
    this.rulesChanged();
  },

  async saveSegment() {
    const form = new FormData();
    form.append("name", this.segmentName);
    form.append("rules", this.$refs.stored.value);
    const { id, name, rules, wrong } = await fetchJson(this.pages.segments, { form });
    [this.segmentMessage, this.segmentFailed] = [id ? `The segment “${name}” is saved.` : wrong, !id];
    if (!id) return;
    this.segmentName = "";
    this.offer.segments.push({ id, name, rules });
    this.offer.choices.segment?.push([id, name]);
  },
  addSelectedSegment(select) {
    const segment = this.offer.segments.find(({ id }) => String(id) === select.value);
    select.value = "";
    this.addSegment(segment);
  },
  addSegment(segment) {
    if (!segment) return;
    const copy = withKeys(segment.rules);
    /* The page renders this tree object, so it is filled instead of replaced. */
    if (!this.tree.rules.length) Object.assign(this.tree, { match: copy.match, rules: copy.rules });
    else this.tree.rules.push(copy);
    this.rulesChanged();
  },
});
