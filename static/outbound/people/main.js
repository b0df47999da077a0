/* The list of people, with its rule builder. */
import { attributePicker } from "../console/attribute_picker.js";
import { nameSearch } from "../console/name_search.js";
import { notifyChanged } from "../console/page.js";
import { ruleBuilder } from "../console/rule_builder.js";

document.addEventListener("logged-in", notifyChanged);
document.addEventListener("alpine:init", () => {
  window.Alpine.data("attributePicker", attributePicker);
  window.Alpine.data("nameSearch", nameSearch);
  window.Alpine.data("ruleBuilder", ruleBuilder);
});
