/* The inbox: news appears without a reload, a draft outlives one, and images are sent with an answer. */
import { openDetails } from "./about.js";
import { answer, prepareEditor } from "./answer.js";
import { pageData, scrollToBottom } from "./dom.js";
import { startPolling } from "./polling.js";
import { showUnreadCount } from "./render.js";
import { savedReplies } from "./saved_replies.js";

prepareEditor();
document.addEventListener("alpine:init", () => {
  window.Alpine.data("answer", answer);
  window.Alpine.data("savedReplies", savedReplies);
});
document.addEventListener("DOMContentLoaded", () => {
  /* A conversation opens at its end, the list at its beginning. */
  if (pageData().conversation) scrollToBottom();
  openDetails();
  showUnreadCount();
  startPolling();
});
