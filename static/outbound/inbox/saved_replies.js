/* The menu of saved replies: found by words, chosen with the mouse or the keyboard, inserted at the cursor. */
import { fetchJson } from "../console/page.js";

export const savedReplies = (address) => ({
  isOpen: false, words: "", replies: [], at: 0, refused: "", said: "", request: null,

  toggleMenu() { return this.isOpen ? this.closeMenu() : this.openMenu(); },
  async openMenu() {
    Object.assign(this, { isOpen: true, words: "", at: 0 });
    this.$nextTick(() => this.$refs.words.focus());
    await this.search();
  },
  closeMenu() {
    this.isOpen = false;
    this.$refs.button.focus();
  },

  async search() {
    this.request?.abort();
    this.request = new AbortController();
    const { signal } = this.request;
    const { replies, wrong } = await fetchJson(`${address}?q=${encodeURIComponent(this.words)}`, { signal });
    if (signal.aborted) return;
    Object.assign(this, { replies: replies ?? [], at: 0, refused: wrong ?? "" });
  },

  moveBy(step) {
    if (!this.replies.length) return;
    this.at = (this.at + step + this.replies.length) % this.replies.length;
    this.$nextTick(() => document.getElementById(`reply-${this.at}`)?.scrollIntoView({ block: "nearest" }));
  },

  insertReply(reply = this.replies[this.at]) {
    if (!reply) return;
    if (reply.wrong) { this.refused = reply.wrong; return; }
    const element = this.$root.closest("form").querySelector("trix-editor");
    this.isOpen = false;
    element.focus();
    element.editor.insertHTML(reply.html);
    this.said = reply.missing.length ? `No value for ${reply.missing.join(", ")}. Replace the square brackets before you send.` : "";
  },
});
