/* The scripts of every page of the console. */
import "./autosave.js";
import "./file_fields.js";
import "./menus.js";
import "./palette.js";
import "./session.js";
import "./shortcuts.js";
import "../people/message_sheet.js";
