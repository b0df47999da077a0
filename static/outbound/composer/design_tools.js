/* The tools of a designed email above its text, and their dialogs (composer/design.html). */
import { onEditorReady } from "../console/editors.js";
import {
  COLUMNS, LINE, alignBlocks, blockHtml, buttonHtml, buttonValues, changeAttachment, imageHtml, imageValues, insertBlocks,
  isOneElement, kindOfAttachment, selectedAlignment, selectedAttachment,
} from "./design.js";

const FULL_ADDRESS = "Enter a full address such as https://www.example.com/orders. Variables may follow the host.";
/* Also the `pattern` of a field, which is a regular expression with the flag v. */
const ADDRESS = String.raw`(?:[Hh][Tt][Tt][Pp][Ss]?:\/\/[^\s\/]|mailto:|tel:|\{\{).*`;
const WIDTH = /^(?:\d{1,4}(?:px)?|\d{1,3}%)?$/;

const linkProblem = (link, isNeeded) => ((link || isNeeded) && !new RegExp(`^${ADDRESS}$`, "u").test(link) ? ["link", FULL_ADDRESS] : null);
const DIALOGS = {
  button: {
    values: buttonValues, html: (_attachment, values) => buttonHtml(values),
    problem: ({ text, link }) => (text ? linkProblem(link, true) : ["text", "Enter the text of the button."]),
  },
  image: {
    values: imageValues, html: imageHtml,
    problem: ({ width, link }) => (WIDTH.test(width) ? linkProblem(link, false)
      : ["width", "Enter a width such as 300 (pixels) or 50%, or leave it empty."]),
  },
  html: {
    values: (attachment) => ({ html: blockHtml(attachment) }), html: (_attachment, { html }) => html,
    problem: ({ html }) => (isOneElement(html) ? null : ["html", "Enter one element, such as a table, with conditions inside it."]),
  },
};
const fieldsOf = (dialog) => [...dialog.querySelectorAll("[data-field]")];
const valuesOf = (dialog) => Object.fromEntries(fieldsOf(dialog).map((one) => [one.dataset.field, one.value.trim()]));

function showProblem(dialog, [name, text]) {
  dialog.querySelector("[role=alert]").textContent = text;
  dialog.querySelector(`[data-field=${name}]`).focus();
}

/* Open the dialog of a kind with values; `apply` gets the values that staff confirm. */
function openDialog(kind, values, apply) {
  const dialog = document.getElementById(`design-${kind}`);
  for (const field of fieldsOf(dialog)) field.value = values[field.dataset.field] ?? "";
  dialog.querySelector("[role=alert]").textContent = "";
  dialog.confirmValues = () => {
    const given = valuesOf(dialog);
    const problem = DIALOGS[kind].problem(given);
    if (problem) return showProblem(dialog, problem);
    dialog.close();
    apply(given);
  };
  dialog.showModal();
}

function editSelected(element, attachment) {
  const kind = kindOfAttachment(attachment);
  openDialog(kind, DIALOGS[kind].values(attachment), (values) => {
    changeAttachment(element, attachment, DIALOGS[kind].html(attachment, values));
    element.focus();
  });
}

function insertInto(field, text) {
  field.setRangeText(text, field.selectionStart ?? field.value.length, field.selectionEnd ?? field.value.length, "end");
  field.dispatchEvent(new Event("input"));
  field.focus();
}

/* A menu that inserts a variable into an address, with the variables of the menu of the text. */
function variableChooser(field) {
  const all = document.getElementById("variable-text");
  const menu = Object.assign(document.createElement("select"), { className: "ob-input ob-variable-chooser" });
  menu.setAttribute("aria-label", "Insert a variable into the address");
  menu.append(new Option("Insert variable", ""), ...[...all.children].map((one) => one.cloneNode(true)));
  menu.addEventListener("change", () => {
    /* At the start it is the whole address, later a part. */
    const isPart = field.value.slice(0, field.selectionStart ?? field.value.length).trim();
    insertInto(field, `{{ ${menu.value}${isPart ? " | url_encode" : ""} }}`);
    menu.value = "";
  });
  return menu;
}

/* Trix accepts only complete addresses in its dialog of a link, but a variable can be the whole address. */
function improveLinkDialog(element) {
  const field = element.toolbarElement.querySelector("[data-trix-dialog=href] input[name=href]");
  field.type = "text";
  field.inputMode = "url";
  field.pattern = String.raw`\s*${ADDRESS}`;
  field.setAttribute("aria-label", "Address of the link");
  field.after(variableChooser(field));
  const problem = Object.assign(document.createElement("p"), { className: "ob-error" });
  problem.setAttribute("role", "alert");
  field.closest("[data-trix-dialog]").append(problem);
  field.addEventListener("invalid", () => { problem.textContent = FULL_ADDRESS; });
  for (const [one, name] of [[field, "input"], [element, "trix-toolbar-dialog-show"]]) {
    one.addEventListener(name, () => { problem.textContent = ""; });
  }
}

const commands = {
  button: (element) => openDialog("button", { text: "", link: "", colour: element.dataset.colour, alignment: "left" }, (values) => {
    insertBlocks(element, buttonHtml(values), "Insert button");
    element.focus();
  }),
  columns: (element) => { insertBlocks(element, COLUMNS, "Insert columns"); element.focus(); },
  line: (element) => { insertBlocks(element, LINE, "Insert line"); element.focus(); },
  edit: (element, selected) => { if (selected) editSelected(element, selected); },
  left: (element) => { alignBlocks(element, "left"); element.focus(); },
  center: (element) => { alignBlocks(element, "center"); element.focus(); },
  right: (element) => { alignBlocks(element, "right"); element.focus(); },
};

function start(element) {
  const bar = document.getElementById("design");
  let selected = null;
  const show = () => {
    if (document.activeElement === element) selected = selectedAttachment(element);
    bar.querySelector("[data-design=edit]").disabled = !selected;
    const alignment = selectedAlignment(element);
    bar.querySelectorAll("[aria-pressed]").forEach((one) => one.setAttribute("aria-pressed", one.dataset.design === alignment));
  };
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("[data-design]");
    if (button) commands[button.dataset.design](element, selected);
  });
  /* A press of the mouse must not take the selection from the text. */
  bar.addEventListener("mousedown", (event) => { if (event.target.closest("button")) event.preventDefault(); });
  element.addEventListener("trix-selection-change", show);
  element.addEventListener("trix-change", show);
  element.addEventListener("dblclick", (event) => {
    if (event.target.closest("figure[data-trix-attachment]") && selectedAttachment(element)) editSelected(element, selectedAttachment(element));
  });
  improveLinkDialog(element);
  show();
}

function startDialogs() {
  for (const dialog of document.querySelectorAll("dialog[id^=design-]")) {
    dialog.querySelectorAll("[data-variable-for]").forEach((place) => {
      place.append(variableChooser(dialog.querySelector(`[data-field=${place.dataset.variableFor}]`)));
    });
    dialog.addEventListener("click", (event) => {
      if (event.target.closest("[data-close]")) dialog.close();
      if (event.target.closest("[data-confirm]")) dialog.confirmValues();
    });
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Enter" || !event.target.matches("input")) return;
      event.preventDefault();
      dialog.confirmValues();
    });
  }
}

export function startDesign() {
  if (!document.getElementById("design")) return;
  startDialogs();
  onEditorReady(start);
}
