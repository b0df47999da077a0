/* The form for an answer or a note, and its images. */
import { nameEditor, onEditorReady } from "../console/editors.js";

export const answer = (kind) => ({
  kind, names: [], sending: false,

  init() {
    if (location.pathname.endsWith("/note/")) this.kind = "note";
    if (this.$root.querySelector(".ob-error")) this.$nextTick(() => this.$root.scrollIntoView({ block: "end" }));
  },

  switchTo(kind) {
    this.kind = kind;
    const editor = this.$root.querySelector("trix-editor");
    nameEditor(editor, kind === "note" ? "Note" : "Answer");
    editor.setAttribute("placeholder", kind === "note" ? "Write a note for the team" : "Write an answer");
    editor.focus();
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
  });
}
