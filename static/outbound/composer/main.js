/* The scripts of the composer and of the other pages with a message or a rule builder. */
import { nameEditor, onEditorReady } from "../console/editors.js";
import { attributePicker } from "../console/attribute_picker.js";
import { markCounts } from "../console/count_state.js";
import { nameSearch } from "../console/name_search.js";
import { notifyChanged } from "../console/page.js";
import { ruleBuilder } from "../console/rule_builder.js";
import { deliveryWindow } from "./delivery_window.js";
import { startDesign } from "./design_tools.js";
import { composer, directMessage } from "./forms.js";
import { imageButton, uploadImages } from "./images.js";
import { preview } from "./preview.js";
import "./sheet.js";
import { variableMenu } from "./variables.js";

const components = {
  attributePicker, composer, deliveryWindow, directMessage, imageButton, nameSearch, preview, ruleBuilder, variableMenu,
};

uploadImages();
markCounts();
startDesign();
onEditorReady((editor) => nameEditor(editor, "Text"));
document.addEventListener("logged-in", notifyChanged);
document.addEventListener("alpine:init", () => {
  Object.entries(components).forEach(([name, component]) => window.Alpine.data(name, component));
});
