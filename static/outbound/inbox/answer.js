/* The form for an answer or a note: its draft, kept over a reload, and its images. */
import { onEditorReady } from "../console/editors.js";
import { pageData } from "./dom.js";

const draft = {
  get key() { return `outbound-draft-${pageData().conversation}`; },
  load() { try { return JSON.parse(sessionStorage.getItem(this.key) ?? "null"); } catch { return null; } },
  save(value) { try { sessionStorage.setItem(this.key, JSON.stringify(value)); } catch { /* Storage is blocked. */ } },
  remove() { try { sessionStorage.removeItem(this.key); } catch { /* Storage is blocked. */ } },
};

export const answer = () => ({
  kind: draft.load()?.kind === "note" ? "note" : "reply", names: [], sending: false,

  init() {
    if (location.pathname.endsWith("/note/")) this.kind = "note";
    this.$root.addEventListener("trix-change", () => this.saveDraft());
    if (this.$root.querySelector(".ob-error")) this.$nextTick(() => this.$root.scrollIntoView({ block: "end" }));
  },

  get body() { return this.$root.querySelector("input[name=body]").value; },
  saveDraft() {
    if (this.body) draft.save({ body: this.body, kind: this.kind });
    else draft.remove();
  },

  switchTo(kind) {
    this.kind = kind;
    const editor = this.$root.querySelector("trix-editor");
    editor.setAttribute("aria-label", kind === "note" ? "Note" : "Answer");
    editor.setAttribute("placeholder", kind === "note" ? "Write a note for the team" : "Write an answer");
    editor.focus();
    this.saveDraft();
  },

  setFiles(files) {
    const transfer = new DataTransfer();
    files.forEach((file) => transfer.items.add(file));
    this.$refs.files.files = transfer.files;
    this.listFiles();
  },
  addFiles(files) { this.setFiles([...this.$refs.files.files, ...files]); },
  removeFile(index) { this.setFiles([...this.$refs.files.files].filter((_file, at) => at !== index)); },
  listFiles() { this.names = [...this.$refs.files.files].map((file) => file.name); },

  submitForm() { this.$root.requestSubmit(this.$refs[this.kind]); },
  /* Ignore a second click; the server also recognises a repeated form. */
  formSubmitted(event) {
    if (this.sending) return event.preventDefault();
    this.sending = true;
    draft.remove();
  },
});

export function prepareEditor() {
  /* Files do not go into the text: they are sent with the answer. */
  document.addEventListener("trix-file-accept", (event) => {
    event.preventDefault();
    event.target.dispatchEvent(new CustomEvent("files-taken", { bubbles: true, detail: [event.file] }));
  });
  onEditorReady((element) => {
    element.setAttribute("placeholder", "Write an answer");
    const saved = draft.load();
    if (saved?.body && !element.inputElement.value) element.editor.loadHTML(saved.body);
  });
}
