/* The rich-text editors of the page. */

/* Call back once for each editor. Trix starts while the page is parsed, so an editor can be ready before a module runs;
   rich_text.js marks it. */
export function onEditorReady(callback) {
  document.addEventListener("trix-initialize", ({ target }) => callback(target));
  document.querySelectorAll("trix-editor[data-ready]").forEach(callback);
}

/* Name an editor for screen readers. Trix removes a name without a label element when the editor gets the focus. */
export function nameEditor(editor, name) {
  editor.setAttribute("aria-label", name);
  editor.onfocus = () => editor.setAttribute("aria-label", name);
}
