/* The inbox: news appears without a reload, a draft outlives one, and images are sent with an answer. */
import { answer, prepareEditor } from "./answer.js";
import { pageData, scrollToBottom } from "./dom.js";
import { startPolling } from "./polling.js";
import { showUnreadCount } from "./render.js";

prepareEditor();
document.addEventListener("alpine:init", () => window.Alpine.data("answer", answer));
document.addEventListener("DOMContentLoaded", () => {
  /* A conversation opens at its end, the list at its beginning. */
  if (pageData().conversation) scrollToBottom();
  showUnreadCount();
  startPolling();
});
