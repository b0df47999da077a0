/* The live preview, the search for the customer in it, and the test email (composer/beside.html). */
import { fetchJson } from "../console/page.js";

export const preview = () => ({
  wide: true, typed: "", searchedFor: null, results: [], position: 0, request: null, refused: "",
  fullPage: "", fullWidth: 600, dark: false, testMessage: "", testFailed: false, testing: false,

  init() { this.wide = window.innerWidth >= 1024; },

  /* The addresses of the pages beside the preview's. */
  addressOf(page) {
    return document.getElementById("preview-shown").getAttribute("hx-post").replace(/preview\/$/, `${page}/`);
  },

  showFrame(source) {
    const frame = this.$root.querySelector("iframe");
    if (frame?.contentWindow === source) frame.hidden = false;
  },

  moveBy(step) {
    if (!this.results.length) return this.search();
    this.position = (this.position + step + this.results.length) % this.results.length;
  },

  /* Debounced: a customer may have been chosen in the meantime, then the list stays closed. */
  searchTyped() { if (this.typed !== this.searchedFor) this.search(); },

  async search() {
    this.request?.abort();
    this.request = new AbortController();
    const typed = this.typed;
    const query = new URLSearchParams({ q: typed });
    const { people, wrong } = await fetchJson(`${this.addressOf("people")}?${query}`, { signal: this.request.signal });
    this.refused = wrong ?? "";
    if (wrong) this.results = [];
    if (people) [this.results, this.position, this.searchedFor] = [people, 0, typed];
  },

  /* Enter chooses from the results for the current text, even if they have not arrived yet. */
  async chooseTyped() {
    for (let tries = 0; this.searchedFor !== this.typed && tries < 4; tries += 1) await this.search();
    if (this.searchedFor === this.typed) this.chooseCustomer(this.results[this.position]);
  },

  chooseCustomer(customer) {
    if (!customer) return;
    this.request?.abort();
    this.$refs.customer.value = customer.id;
    [this.typed, this.searchedFor, this.results] = [customer.name, customer.name, []];
    document.body.dispatchEvent(new CustomEvent("preview-as"));
  },

  /* The same page at full size. Mail programs without a dark version of an email turn its colours around, not its images. */
  drawFull(dark) {
    this.dark = dark;
    const turn = "filter: invert(1) hue-rotate(180deg)";
    const style = dark ? `<style>html { ${turn}; background: #fff } img { ${turn} }</style>` : "";
    const { srcdoc } = this.$root.querySelector("#preview-shown iframe");
    this.fullPage = srcdoc.replace("</head>", `${style}</head>`);
  },
  showFull() {
    if (!this.$root.querySelector("#preview-shown iframe")) return;
    this.fullWidth = window.innerWidth < 700 ? 375 : 600;
    this.drawFull(false);
    this.$refs.full.showModal();
  },

  async sendTest() {
    [this.testing, this.testMessage, this.testFailed] = [true, "Sending …", false];
    const form = new FormData(document.getElementById("composer"));
    const { said, wrong } = await fetchJson(this.addressOf("test"), { form });
    [this.testing, this.testMessage, this.testFailed] = [false, said ?? wrong, !said];
  },
});
