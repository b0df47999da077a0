/* Passkeys: ask the browser to create or to use one, and post its answer with the form. */
import { readJson } from "../console/page.js";

const REASONS = {
  NotAllowedError: "The browser did not confirm the passkey. Try again.",
  InvalidStateError: "This passkey is set up already.",
  SecurityError: "Passkeys do not work at this address: it needs a host name and https.",
};

async function readOptions(form) {
  if (form.dataset.passkey !== "login") return readJson("passkey-options", {});
  const answer = await fetch(form.action, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error("The server does not answer.");
  return answer.json();
}

async function askBrowser(form) {
  const { creation_options: creation, request_options: request } = await readOptions(form);
  if (form.dataset.passkey !== "create") {
    return navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(request.publicKey) });
  }
  /* A key that can store the account also logs in without a password. */
  const selection = { ...creation.publicKey.authenticatorSelection, residentKey: "preferred", requireResidentKey: false };
  const options = { ...creation.publicKey, authenticatorSelection: selection };
  return navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) });
}

async function usePasskey(form) {
  const said = form.querySelector("[role=alert]");
  said.hidden = true;
  try {
    form.elements.credential.value = JSON.stringify((await askBrowser(form)).toJSON());
    form.submit();
  } catch (problem) {
    said.textContent = REASONS[problem.name] ?? `This did not work: ${problem.message}`;
    said.hidden = false;
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const isSupported = Boolean(window.PublicKeyCredential?.parseRequestOptionsFromJSON);
  form.querySelector("[data-unsupported]")?.toggleAttribute("hidden", isSupported);
  const button = form.querySelector("button[data-use]");
  button.hidden = !isSupported;
  button.addEventListener("click", () => usePasskey(form));
}
