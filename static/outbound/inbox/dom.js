/* The elements of the inbox page that several of its scripts use. */

export const findById = (id, within = document) => within.querySelector(`#${id}`);

/* The page's data: the address of the news, its ETag, the open conversation, and the address that marks it as seen. */
export const pageData = () => findById("inbox").dataset;

const scroller = () => {
  const scroll = findById("thread-scroll");
  return scroll && scroll.scrollHeight > scroll.clientHeight + 1 ? scroll : document.scrollingElement;
};
export const isAtBottom = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 80;
export const scrollToBottom = () => { scroller().scrollTop = scroller().scrollHeight; };

export const hasUnseenOpen = () => Boolean(findById("inbox").querySelector(".ob-unseen[aria-current]"));
