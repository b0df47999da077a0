/* The command palette: Ctrl+K or Cmd+K anywhere, / outside fields unless single keys are off, and buttons with data-palette. */
import { fetchJson } from "./page.js";
import { isSingleKey } from "./shortcuts.js";

const dialog = document.getElementById("palette");
const DELAY = 120;

function start() {
  const field = dialog.querySelector("input");
  const list = dialog.querySelector("[role=listbox]");
  const says = dialog.querySelector("[role=status]");
  const usual = field.placeholder;
  let [scope, items, position, searchedFor, timer, request] = [{}, [], 0, null, 0, null];

  /* A button may ask a question about a message, such as “Why did … not get it?”, and give the text of a search. */
  function open({ question, message, typed = "" } = {}) {
    if (!dialog.open) dialog.showModal();
    scope = message ? { message } : {};
    [field.value, field.placeholder] = [typed, question ?? usual];
    field.setAttribute("aria-label", question ?? usual);
    field.focus();
    search();
  }

  async function search() {
    clearTimeout(timer);
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const typed = field.value;
    const { groups, wrong } = await fetchJson(`${dialog.dataset.results}?${new URLSearchParams({ ...scope, q: typed })}`, { signal });
    if (signal.aborted) return;
    searchedFor = typed;
    show(groups ?? []);
    says.textContent = wrong || (items.length ? "" : typed ? "Nothing found." : "Type a name, an email or an ID.");
  }

  function show(groups) {
    items = groups.flatMap((group) => group.items);
    position = 0;
    let number = 0;
    list.replaceChildren(...groups.map((group, place) => {
      const part = document.createElement("div");
      const heading = Object.assign(document.createElement("p"), { id: `palette-group-${place}`, textContent: group.title });
      heading.setAttribute("role", "presentation");
      part.setAttribute("role", "group");
      part.setAttribute("aria-labelledby", heading.id);
      part.append(heading, ...group.items.map((item) => optionFor(item, number++)));
      return part;
    }));
    list.hidden = !items.length;
    field.setAttribute("aria-expanded", String(items.length > 0));
    mark();
  }

  function optionFor(item, number) {
    const option = Object.assign(document.createElement("div"), { id: `palette-${number}`, className: "ob-palette-item" });
    option.setAttribute("role", "option");
    const icon = Object.assign(document.createElement("span"), { className: "material-symbols-outlined", textContent: item.icon });
    icon.setAttribute("aria-hidden", "true");
    const name = Object.assign(document.createElement("span"), { className: "ob-palette-name", textContent: item.title });
    const detail = Object.assign(document.createElement("span"), { className: "ob-palette-detail", textContent: item.detail });
    option.append(icon, name, detail);
    option.addEventListener("mousemove", () => { if (position !== number) { position = number; mark(); } });
    option.addEventListener("click", (event) => choose(item, event));
    return option;
  }

  function mark() {
    list.querySelectorAll("[role=option]").forEach((option, number) => {
      option.setAttribute("aria-selected", String(number === position));
      if (number === position) option.scrollIntoView({ block: "nearest" });
    });
    if (items.length) field.setAttribute("aria-activedescendant", `palette-${position}`);
    else field.removeAttribute("aria-activedescendant");
  }

  function choose(item, { ctrlKey, metaKey }) {
    if (!item) return;
    if (ctrlKey || metaKey) { window.open(item.url, "_blank", "noopener"); return; }
    dialog.close();
    const asked = new CustomEvent("open-message-sheet", { detail: item.url, cancelable: true });
    if (!item.in_sheet || document.dispatchEvent(asked)) window.location.assign(item.url);
  }

  /* Enter chooses from the results for the current text, even if they have not arrived yet. */
  async function chooseTyped(event) {
    if (searchedFor !== field.value) await search();
    if (searchedFor === field.value) choose(items[position], event);
  }

  field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, DELAY); });
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && items.length) { position = (position + step + items.length) % items.length; mark(); }
    if (event.key === "Enter" && !event.isComposing) chooseTyped(event);
    if (step || event.key === "Enter") event.preventDefault();
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    clearTimeout(timer);
    request?.abort();
    searchedFor = null;
    show([]);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-palette]");
    if (button) open(button.dataset);
  });
  /* Before the editor, which makes a link of selected text by Ctrl+K. */
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const isCommand = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey;
    if (!isCommand && !isSingleKey(event, "/")) return;
    if (target.isContentEditable && !document.getSelection().isCollapsed) return;
    if (document.querySelector("dialog[open]:not(#palette)")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!dialog.open) open();
  }, true);
}

if (dialog) start();
