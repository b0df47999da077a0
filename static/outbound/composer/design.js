/* Commands of a designed email: blocks, alignment and attachments in the document of the editor. */

const CONTAINERS = new Set(["box", "center", "quote"]);
/* Two, with their margins, fit into the 528 pixels that the preview leaves of the width of a desktop. */
const MAX_COLUMN = 248;
const parsed = (html) => new DOMParser().parseFromString(`<!doctype html><body>${html}`, "text/html").body;
const levelsOf = (block) => JSON.parse(block.htmlAttributes.kept ?? "[]");

/* Columns stand side by side if there is room for both, and below each other on phones. */
const column = (text) => `<div style="display: inline-block; width: 100%; max-width: ${MAX_COLUMN}px; vertical-align: top; `
  + `margin-right: 16px"><p>${text}</p></div>`;
export const COLUMNS = `<div>${column("Left column")}${column("Right column")}</div>`;
export const LINE = "<hr>";

function rebuiltBlock(block, attributes, levels) {
  const { kept: _kept, ...others } = block.htmlAttributes;
  const given = attributes.map((_name, place) => levels[place] ?? {});
  const htmlAttributes = attributes.length ? { ...others, kept: JSON.stringify(given) } : others;
  return new window.Trix.models.Block(block.text, attributes, htmlAttributes);
}

/* Replace blocks of the document, as one step of undo. */
function replaceBlocks(editor, name, blocks, selected) {
  editor.recordUndoEntry(name);
  editor.composition.setDocument(new window.Trix.models.Document(blocks));
  editor.setSelectedRange(selected);
}

const blocksOf = (editor) => editor.getDocument().getBlocks();
const indexAt = (editor, position) => editor.getDocument().locationFromPosition(position).index;
const lengthOf = (blocks) => blocks.reduce((sum, block) => sum + block.getLength(), 0);

/* Insert blocks below the cursor's block, inside of its boxes. An empty block is replaced. */
export function insertBlocks(element, html, name) {
  const { editor } = element;
  const { Block, HTMLParser } = window.Trix.models;
  const blocks = blocksOf(editor);
  const index = indexAt(editor, editor.getSelectedRange()[1]);
  const current = blocks[index];
  const depth = current.attributes.findLastIndex((one) => CONTAINERS.has(one)) + 1;
  const [boxes, levels] = [current.attributes.slice(0, depth), levelsOf(current).slice(0, depth)];
  const inBoxes = (block) => rebuiltBlock(block, [...boxes, ...block.attributes], [...levels, ...levelsOf(block)]);
  const added = HTMLParser.parse(html, { referenceElement: element }).getDocument().getBlocks().map(inBoxes);
  const before = blocks.slice(0, current.isEmpty() ? index : index + 1);
  const after = blocks.slice(index + 1);
  /* The cursor needs a place below. */
  if (depth || !after.length) after.unshift(inBoxes(depth ? new Block(undefined, ["p"]) : new Block()));
  const start = lengthOf(before);
  const selected = html === COLUMNS ? [start, start + added[0].getLength() - 1] : start + lengthOf(added);
  replaceBlocks(editor, name, [...before, ...added, ...after], selected);
}

/* Call with each selected block; null leaves it. */
function changeSelectedBlocks(element, name, change) {
  const { editor } = element;
  const range = editor.getSelectedRange();
  const [first, last] = range.map((position) => indexAt(editor, position));
  const blocks = blocksOf(editor).map((block, index) => (index < first || index > last ? block : change(block)));
  replaceBlocks(editor, name, blocks, range);
}

function drawnWith(style) {
  const element = document.createElement("p");
  element.style.cssText = style;
  return element;
}

export function selectedAlignment(element) {
  const { editor } = element;
  const block = blocksOf(editor)[indexAt(editor, editor.getSelectedRange()[0])];
  const given = levelsOf(block).at(-1)?.attributes ?? {};
  return drawnWith(given.style ?? "").style.textAlign || given.align || "left";
}

export function alignBlocks(element, alignment) {
  changeSelectedBlocks(element, "Alignment", (block) => {
    const isPlain = !block.attributes.length;
    const attributes = isPlain ? ["box"] : block.attributes;
    const levels = attributes.map((_name, place) => levelsOf(block)[place] ?? {});
    const { style = "", align: _align, ...others } = levels.at(-1).attributes ?? {};
    const drawn = drawnWith(style);
    drawn.style.textAlign = alignment === "left" ? "" : alignment;
    const changed = drawn.getAttribute("style") ? { ...others, style: drawn.getAttribute("style") } : others;
    if (attributes.at(-1) === "box" && attributes.length === 1 && !Object.keys(changed).length) return rebuiltBlock(block, [], []);
    levels[levels.length - 1] = { id: levels.at(-1).id ?? crypto.randomUUID().slice(0, 8), attributes: changed };
    return rebuiltBlock(block, attributes, levels);
  });
}

/* The attachment that is selected, or null. */
export function selectedAttachment(element) {
  const [start, end] = element.editor.getSelectedRange();
  return end === start + 1 ? element.editor.getDocument().getPieceAtPosition(start)?.attachment ?? null : null;
}

const htmlOf = (attachment) => attachment.getAttribute("html") ?? "";

export function kindOfAttachment(attachment) {
  if (attachment.getAttribute("url")) return "image";
  return buttonValues(attachment) ? "button" : "html";
}

/* Replace the attachment in its place: versions of the document, to which staff return with Undo, share an attachment. */
export function changeAttachment(element, attachment, html) {
  const { editor } = element;
  const { Attachment, HTMLSanitizer, Text } = window.Trix.models;
  /* Trix does not draw while an attachment is selected. */
  editor.composition.stopEditingAttachment();
  const document = editor.getDocument();
  const range = document.getRangeOfAttachment(attachment);
  const content = attachment.hasContent() && { content: HTMLSanitizer.sanitize(html).getHTML() };
  const changed = new Attachment({ ...attachment.getAttributes(), html, ...content });
  const text = Text.textForAttachmentWithAttributes(changed, document.getPieceAtPosition(range[0]).getAttributes());
  editor.recordUndoEntry("Change");
  editor.composition.setDocument(document.insertTextAtRange(text, range));
  editor.setSelectedRange(range);
}

/* Buttons */

/* White or dark text, whichever is easier to read on the colour. */
function textColour(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const share = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.3 ? "#1f2933" : "#ffffff";
}

/* A table, because mail programs draw neither padding nor colours of other elements everywhere. A table with align=right
   floats, so a button at the right is in a table as wide as the text. */
const BUTTON = { padding: "12px 24px", radius: "6px" };
const AT_RIGHT = `<table role="presentation" border="0" cellpadding="0" cellspacing="0" width="100%"><tbody><tr><td align="right">`
  + "</td></tr></tbody></table>";
export function buttonHtml({ text, link, colour, alignment }) {
  const margin = { left: "0 0 16px", center: "0 auto 16px", right: "0 0 16px auto" }[alignment];
  const body = parsed(`<table role="presentation" border="0" cellpadding="0" cellspacing="0"><tbody><tr><td><a></a></td></tr></tbody></table>`);
  const [table, cell, anchor] = ["table", "td", "a"].map((name) => body.querySelector(name));
  if (alignment === "center") table.setAttribute("align", alignment);
  table.setAttribute("style", `margin: ${margin}; border-collapse: separate`);
  cell.setAttribute("bgcolor", colour);
  cell.setAttribute("style", `padding: ${BUTTON.padding}; border-radius: ${BUTTON.radius}; background-color: ${colour}; text-align: center`);
  anchor.setAttribute("href", link);
  anchor.setAttribute("style", `display: inline-block; color: ${textColour(colour)}; font-weight: 600; text-decoration: none`);
  anchor.textContent = text;
  if (alignment !== "right") return table.outerHTML;
  const around = parsed(AT_RIGHT).firstElementChild;
  around.querySelector("td").append(table);
  return around.outerHTML;
}

/* The values of a button that the dialog has made, or null: it would change the look of others. */
export function buttonValues(attachment) {
  const root = parsed(htmlOf(attachment)).firstElementChild;
  const cell = root?.querySelector("td[bgcolor]");
  const [anchor, ...others] = cell?.children ?? [];
  const isOurs = cell && /^#[0-9a-f]{6}$/i.test(cell.getAttribute("bgcolor")) && cell.style.padding === BUTTON.padding
    && cell.style.borderRadius === BUTTON.radius && anchor?.localName === "a" && !others.length && !anchor.children.length
    && root.textContent.trim() === anchor.textContent.trim();
  if (!isOurs) return null;
  const table = cell.closest("table");
  return {
    text: anchor.textContent, link: anchor.getAttribute("href") ?? "", colour: cell.getAttribute("bgcolor"),
    alignment: table === root ? table.getAttribute("align") ?? "left" : "right",
  };
}

/* Images */

function imageIn(attachment) {
  const body = parsed(htmlOf(attachment) || "<img alt=''>");
  const image = body.querySelector("img");
  if (!image.getAttribute("src")) image.setAttribute("src", attachment.getAttribute("url"));
  return { body, image, anchor: image.closest("a") };
}

export function imageValues(attachment) {
  const { image, anchor } = imageIn(attachment);
  return {
    alt: image.getAttribute("alt") ?? "", link: anchor?.getAttribute("href") ?? "",
    width: image.style.width || image.getAttribute("width") || "",
  };
}

/* A width in pixels is an attribute, which all mail programs know; a share of the text's width is a style. */
export function imageHtml(attachment, { alt, width, link }) {
  const { body, image, anchor } = imageIn(attachment);
  image.setAttribute("alt", alt);
  image.removeAttribute("height");
  image.removeAttribute("width");
  image.style.width = width.endsWith("%") ? width : "";
  image.style.height = width ? "auto" : "";
  if (width && !width.endsWith("%")) image.setAttribute("width", Number.parseInt(width, 10));
  if (!image.getAttribute("style")) image.removeAttribute("style");
  if (anchor && link) anchor.setAttribute("href", link);
  else if (anchor) anchor.replaceWith(...anchor.childNodes);
  else if (link) {
    const around = document.createElement("a");
    around.setAttribute("href", link);
    image.replaceWith(around);
    around.append(image);
  }
  return body.firstElementChild.outerHTML;
}

export const blockHtml = htmlOf;

/* An attachment is one element: Liquid or text beside it would be lost, and the parser moves them out of the rows of a table. */
export function isOneElement(html) {
  const { children, childNodes } = parsed(html);
  const others = [...childNodes].filter((node) => node.nodeType !== Node.ELEMENT_NODE && (node.nodeType !== Node.TEXT_NODE || node.data.trim()));
  return children.length === 1 && !others.length;
}
