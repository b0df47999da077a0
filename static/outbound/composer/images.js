/* Images in a message's text: uploaded when they are dropped, pasted or chosen. Other files are refused. */
import { fetchJson } from "../console/page.js";
import { contentFields } from "./content.js";

function showUploadError(holder, text) {
  let line = holder.querySelector(".ob-error");
  if (!line) {
    line = Object.assign(document.createElement("p"), { className: "ob-error" });
    line.setAttribute("role", "alert");
    holder.append(line);
  }
  line.textContent = text;
}

async function uploadImage(attachment, holder) {
  showUploadError(holder, "");
  const form = new FormData();
  form.append("file", attachment.file);
  const { url, wrong } = await fetchJson(holder.dataset.pictures, { form });
  if (url) return attachment.setAttributes({ url });
  attachment.remove();
  showUploadError(holder, wrong);
}

/* Trix asks by events on the document. `data-pictures` is the upload address. */
export function uploadImages() {
  document.addEventListener("trix-file-accept", (event) => {
    const holder = event.target.closest("[data-pictures]");
    if (holder && event.file.type.startsWith("image/")) return;
    event.preventDefault();
    if (holder) showUploadError(holder, "That file is not an image. Choose a PNG, JPEG, GIF or WebP file.");
  });
  document.addEventListener("trix-attachment-add", ({ attachment, target }) => {
    const holder = target.closest("[data-pictures]");
    if (attachment.file && holder) uploadImage(attachment, holder);
  });
}

export const imageButton = () => ({
  insertFiles(input) {
    [...input.files].forEach((file) => contentFields.editor().editor.insertFile(file));
    input.value = "";
  },
});
