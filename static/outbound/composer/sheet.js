/* The final sheet: a dialog that counts the recipients and asks for confirmation (composer/sheet.html). */
const UNREACHABLE = "The console cannot be reached, so nothing was sent. Check your connection and try again.";
const FAILED = "This did not work, so check the Outbound list before you try again.";

function showFailure(sheet, text) {
  sheet.querySelector(".ob-sheet-failure")?.remove();
  const line = Object.assign(document.createElement("p"), { className: "ob-notice ob-bad ob-sheet-failure", textContent: text });
  line.setAttribute("role", "alert");
  (sheet.querySelector(".ob-sheet-body") ?? sheet.firstElementChild).prepend(line);
}

/* Close the sheet and focus the field that a problem is about. */
function goToField(id) {
  const place = document.getElementById(id) ?? document.getElementById("composer");
  place.closest("details")?.setAttribute("open", "");
  place.scrollIntoView({ block: "center" });
  const fields = [place, ...place.querySelectorAll("trix-editor, textarea, input, select, button")];
  fields.find((field) => field.matches(":is(trix-editor, textarea, input, select, button)") && field.offsetParent)?.focus();
}

function start(dialog) {
  const sheet = dialog.querySelector("#sheet");
  const isSheet = (event) => event.detail.target === sheet;
  const focusConfirmation = () => {
    const places = ["#confirm", "[data-correct]", ".ob-primary", "#sheet-title"];
    places.map((place) => sheet.querySelector(place)).find(Boolean)?.focus();
  };

  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (!isSheet(event) || dialog.open) return;
    sheet.replaceChildren(dialog.querySelector("template").content.cloneNode(true));
    dialog.showModal();
    sheet.querySelector("#sheet-title").focus();
  });
  document.body.addEventListener("htmx:afterSettle", (event) => { if (isSheet(event) && dialog.open) focusConfirmation(); });
  document.body.addEventListener("htmx:sendError", (event) => { if (isSheet(event)) showFailure(sheet, UNREACHABLE); });
  document.body.addEventListener("htmx:responseError", (event) => { if (isSheet(event)) showFailure(sheet, FAILED); });
  dialog.addEventListener("click", (event) => {
    const correct = event.target.closest("[data-correct]");
    if (!correct && !event.target.closest("[data-close]")) return;
    event.preventDefault();
    dialog.close();
    if (correct) goToField(correct.hash.slice(1));
  });
  /* A held Enter key opens the sheet and must not press its button as well. */
  dialog.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.repeat) event.preventDefault(); });
  dialog.addEventListener("close", () => {
    /* The notice of an ended session is shown above the dialog while it is open. */
    const notice = dialog.querySelector(".ob-logged-out");
    if (notice) document.body.append(notice);
  });
}

const dialog = document.getElementById("sheet-dialog");
if (dialog) start(dialog);
