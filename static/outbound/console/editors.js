/* The rich-text editors of the page. */

/* Call back once for each editor. Trix starts while the page is parsed, so an editor can be ready before a module runs;
   rich_text.js marks it. */
export function onEditorReady(callback) {
  document.addEventListener("trix-initialize", ({ target }) => callback(target));
  document.querySelectorAll("trix-editor[data-ready]").forEach(callback);
}
