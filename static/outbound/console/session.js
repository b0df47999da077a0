/* If the session ends, the page keeps the typed text and continues after a login in another tab. */
/* A module has no document.currentScript. */
const { login, session } = document.querySelector("script[data-session]").dataset;
const CHECK_INTERVAL = 60_000;
let checkedAt = Date.now();
let notice = null;

function showLoggedOut() {
  if (!notice) {
    notice = Object.assign(document.createElement("p"), { className: "ob-notice ob-bad ob-logged-out" });
    notice.setAttribute("role", "alert");
    const link = Object.assign(document.createElement("a"), { href: login, target: "_blank", rel: "noopener", textContent: "Log in in another tab" });
    notice.append("You are logged out. Your text is still here. ", link, ", then continue.");
  }
  /* A modal dialog covers the rest of the page. */
  if (!notice.isConnected) (document.querySelector("dialog:modal") ?? document.body).append(notice);
}

function continueSession(token) {
  document.querySelectorAll("input[name=csrfmiddlewaretoken]").forEach((field) => { field.value = token; });
  if (!notice) return;
  notice.remove();
  notice = null;
  document.dispatchEvent(new CustomEvent("logged-in"));
}

/* Check the session. A login changes the CSRF token, so the forms get the new one. */
async function checkSession() {
  try {
    const answer = await fetch(session, { redirect: "manual", cache: "no-store", credentials: "same-origin" });
    checkedAt = Date.now();
    if (answer.type === "opaqueredirect") {
      showLoggedOut();
      return false;
    }
    if (answer.ok) continueSession((await answer.json()).token);
  } catch { /* An unreachable server does not mean that the session ended. */ }
  return true;
}

document.addEventListener("logged-out", showLoggedOut);
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (!xhr?.responseURL || new URL(xhr.responseURL).pathname !== login) return;
  event.detail.shouldSwap = false;
  showLoggedOut();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) checkSession(); });
window.addEventListener("focus", () => { if (notice) checkSession(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) checkSession(); });

/* Do not submit a form that would only be redirected to the login. */
const waiting = new WeakSet();
document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (!form.querySelector("input[name=csrfmiddlewaretoken]") || (!notice && Date.now() - checkedAt < CHECK_INTERVAL)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (waiting.has(form)) return;
  waiting.add(form);
  /* Removed and added again, so that screen readers announce it. */
  notice?.remove();
  const isLoggedIn = await checkSession();
  waiting.delete(form);
  if (!isLoggedIn) return;
  [notice, checkedAt] = [null, Date.now()];
  form.requestSubmit(submitter);
}, true);
