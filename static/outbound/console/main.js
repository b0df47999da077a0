/* The scripts of every page of the console. */
import "./file_fields.js";
import "./palette.js";
import "./session.js";
