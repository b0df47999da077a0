/* Data of a page, requests to its server, and the event for a changed form. */

export const readJson = (id, otherwise) => {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : otherwise;
};

export const parseJson = (text, otherwise) => {
  try { return JSON.parse(text) ?? otherwise; } catch { return otherwise; }
};

let lastKey = 0;
/* Return a new key for a row of an Alpine list. */
export const nextKey = () => ++lastKey;

export const csrfToken = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";

/* The preview and the count of people listen to this event. */
export const notifyChanged = () => document.body.dispatchEvent(new CustomEvent("composer-changed"));

/* Request JSON from the server. Returns { wrong } with a text for staff on failure. */
export async function fetchJson(address, { form, signal } = {}) {
  try {
    const options = form ? { method: "POST", body: form, headers: { "X-CSRFToken": csrfToken() } } : {};
    const answer = await fetch(address, { credentials: "same-origin", signal, ...options });
    if (answer.redirected) {
      document.dispatchEvent(new CustomEvent("logged-out"));
      return { wrong: "You are logged out." };
    }
    const kind = answer.headers.get("content-type") ?? "";
    if (kind.includes("json")) return await answer.json();
    return { wrong: answer.status === 403 ? "You are not allowed to do this." : "This did not work. Try again." };
  } catch (problem) {
    return { wrong: problem.name === "AbortError" ? "" : "The console cannot be reached. Try again." };
  }
}
