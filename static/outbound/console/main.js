/* The scripts of every page of the console. */
import "./file_fields.js";
import "./session.js";
