/* A search for one of many names (console/name_search.html). */
import { fetchJson } from "./page.js";

/* `onChoose` receives the chosen name and returns the field's new text. `pages` is the rule builder's. */
export const nameSearch = (kind, name, onChoose, id) => ({
  id, typed: name, chosenName: name, results: [], position: 0, searchedFor: null, emptyReason: "", request: null,

  /* Debounced: a name may have been chosen in the meantime, then the list stays closed. */
  searchTyped() { if (this.typed !== this.chosenName || this.searchedFor !== null) this.search(); },

  async search() {
    this.request?.abort();
    this.request = new AbortController();
    const typed = this.typed;
    const query = new URLSearchParams({ kind, q: typed === this.chosenName ? "" : typed });
    const { names, wrong } = await fetchJson(`${this.pages.names}?${query}`, { signal: this.request.signal });
    if (wrong) [this.results, this.emptyReason] = [[], wrong];
    if (!names) return;
    [this.results, this.position, this.searchedFor] = [names, 0, typed];
    this.emptyReason = names.length ? "" : "No results.";
  },

  moveBy(step) {
    if (!this.results.length) return this.search();
    this.position = (this.position + step + this.results.length) % this.results.length;
  },

  /* Enter chooses from the results for the current text, even if they have not arrived yet. */
  async chooseTyped() {
    for (let tries = 0; this.searchedFor !== this.typed && tries < 4; tries += 1) await this.search();
    if (this.searchedFor === this.typed) this.chooseName(this.results[this.position]);
  },

  chooseName(result) {
    if (!result) return;
    this.typed = this.chosenName = onChoose(result) ?? "";
    this.closeResults();
  },

  closeResults() {
    this.request?.abort();
    [this.results, this.searchedFor, this.emptyReason, this.typed] = [[], null, "", this.chosenName];
  },
});
