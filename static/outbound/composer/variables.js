/* The menu that inserts a variable (composer/variables.html). */
import { insertText } from "./content.js";

export const variableMenu = (target) => ({
  open: false, name: "first_name", fallback: "",
  insertVariable() {
    const fallback = this.fallback.replaceAll('"', "").trim();
    this.open = false;
    this.fallback = "";
    insertText(target, `{{ ${this.name}${fallback ? ` | default: "${fallback}"` : ""} }}`);
  },
});
