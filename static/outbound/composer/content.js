/* The fields of a message's content. */

export const contentFields = {
  editor: () => document.querySelector("trix-editor"),
  area: () => document.querySelector("textarea[name=text]"),
  subject: () => document.querySelector("input[name=subject]"),
  link: () => document.querySelector("input[name=link]"),
  rich: () => document.querySelector("input[name=body]")?.value ?? "",
};

export const contentTexts = () => [
  contentFields.rich(),
  ...["subject", "link", "area"].map((name) => contentFields[name]()?.value ?? ""),
];

function insertIntoField(field, text) {
  const end = field.value.length;
  field.setRangeText(text, field.selectionStart ?? end, field.selectionEnd ?? end, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
}

/* Insert text at the cursor of the subject, the link, or the message's text in its present form. */
export function insertText(target, text) {
  if (target === "subject" || target === "link") return insertIntoField(contentFields[target](), text);
  const area = contentFields.area();
  if (area && area.offsetParent) return insertIntoField(area, text);
  contentFields.editor().editor.insertString(text);
  contentFields.editor().focus();
}

/* Push has plain text and the other channels rich text: copy the text to the other field if that is empty. */
export function copyTextTo(channel) {
  const area = contentFields.area();
  const editor = contentFields.editor()?.editor;
  if (!area || !editor) return;
  if (channel === "push" && !area.value.trim()) area.value = editor.getDocument().toString().trim();
  if (channel !== "push" && !contentFields.rich() && area.value.trim()) editor.insertString(area.value);
}
