/* The search for the attribute of a rule, with the interface of nameSearch (console/name_search.html). */
const MAX_RESULTS = 100;

/* As the server stores the name of an event. */
export const eventName = (typed) => typed.trim().toLowerCase().replace(/[.$]/g, "-");

/* `offer`, `labelOf` and `chooseAttribute` are the rule builder's. */
export const attributePicker = (node) => ({
  id: `attribute-${node.key}`, typed: "", searchedFor: null, results: [], position: 0, emptyReason: "",

  init() { this.$watch("node.attribute", () => this.closeResults()); this.closeResults(); },

  /* Debounced: an attribute may have been chosen in the meantime, then the list stays closed. */
  searchTyped() { if (this.typed !== this.labelOf(node) || this.searchedFor !== null) this.search(); },
  search() {
    const words = this.typed === this.labelOf(node) ? [] : this.typed.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.offer.groups.flatMap(({ label: group, attributes }) => attributes
      .filter(({ label, name }) => words.every((word) => `${label} ${name} ${group}`.toLowerCase().includes(word)))
      .map(({ label, name, key }) => ({ id: name, name: label, more: key ? `${group}, ${key}` : group })));
    /* Labels that begin with the text come first; within both parts the order of the menu stays. */
    const first = (label) => Number(!label.toLowerCase().startsWith(this.typed.trim().toLowerCase()));
    if (words.length) found.sort((a, b) => first(a.name) - first(b.name));
    this.results = [...found.slice(0, MAX_RESULTS), ...(words.length ? this.unknownEvents() : [])];
    [this.position, this.searchedFor] = [0, this.typed];
    this.emptyReason = this.results.length ? "" : "No results.";
  },
  /* The name of an event can be typed before the first one arrives. */
  unknownEvents() {
    const name = eventName(this.typed);
    if (!name || this.offer.knownEvents.includes(name)) return [];
    return this.offer.eventAttributes.map(({ prefix, label }) => (
      { id: `${prefix}${name}`, name: label.replace("{}", name), more: "No event of this name has arrived yet" }
    ));
  },

  moveBy(step) {
    if (!this.results.length) return this.search();
    this.position = (this.position + step + this.results.length) % this.results.length;
    this.$nextTick(() => document.getElementById(`${this.id}-${this.position}`)?.scrollIntoView({ block: "nearest" }));
  },
  chooseTyped() {
    if (this.searchedFor !== this.typed) this.search();
    this.chooseName(this.results[this.position]);
  },
  chooseName(result) {
    if (!result) return;
    this.chooseAttribute(node, result.id);
    this.closeResults();
  },
  closeResults() {
    [this.results, this.searchedFor, this.emptyReason, this.typed] = [[], null, "", this.labelOf(node)];
  },
});
