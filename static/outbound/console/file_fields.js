/* Unfold listens to every file field and expects a text field beside it, which our file fields do not have. It skips
   fields with this mark. */
document.querySelectorAll("input[type=file]").forEach((field) => { field.hasChangeListener = true; });
