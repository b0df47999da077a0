/* Changes elements of the page into those that the server renders now. Elements that stay keep their focus, scroll position,
   open state and typed text. */

/* Elements with different keys are different things, so one is not changed into the other. */
const keyOf = (node) => node.id || node.getAttribute?.("action") || node.getAttribute?.("href") || "";
const isSame = (node, other) => node.nodeName === other.nodeName && keyOf(node) === keyOf(other);

/* Attributes that the browser or another script sets. A new token of the same form is no change. */
const isForeign = (element, name) =>
  (element.matches("details, dialog") && name === "open")
  || (element.matches("canvas") && !name.startsWith("data-"))
  || (element.matches("[name=csrfmiddlewaretoken]") && name === "value");

function morphAttributes(element, wanted) {
  for (const { name } of [...element.attributes]) {
    if (!wanted.hasAttribute(name) && !isForeign(element, name)) element.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (element.getAttribute(name) !== value && !isForeign(element, name)) element.setAttribute(name, value);
  }
}

/* An element with data-keep refreshes itself. */
export function morph(element, wanted) {
  if (element.matches("[data-keep]")) return;
  morphAttributes(element, wanted);
  const left = [...element.childNodes];
  for (const child of [...wanted.childNodes]) {
    const place = left.findIndex((one) => isSame(one, child));
    if (place < 0) {
      element.insertBefore(child, left[0] ?? null);
      continue;
    }
    left.splice(0, place).forEach((one) => one.remove());
    const kept = left.shift();
    if (kept.nodeType === Node.ELEMENT_NODE) morph(kept, child);
    else if (kept.nodeValue !== child.nodeValue) kept.nodeValue = child.nodeValue;
  }
  left.forEach((one) => one.remove());
}
