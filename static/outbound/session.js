/* A session that ends takes nothing with it: what was typed stays, and goes on once one is logged in in another tab. */
{
  const { login, session } = document.currentScript.dataset;
  const A_MINUTE = 60_000;
  let asked = Date.now(), line = null;

  function ended() {
    if (!line) {
      line = Object.assign(document.createElement("p"), { className: "ob-notice ob-bad ob-logged-out" });
      line.setAttribute("role", "alert");
      const link = Object.assign(document.createElement("a"), { href: login, target: "_blank", rel: "noopener", textContent: "Log in in another tab" });
      line.append("You are logged out. Your text is still here. ", link, ", then continue.");
    }
    if (!line.isConnected) document.body.append(line);
  }
  function goesOn(token) {
    document.querySelectorAll("input[name=csrfmiddlewaretoken]").forEach((field) => { field.value = token; });
    if (!line) return;
    line.remove();
    line = null;
    document.dispatchEvent(new CustomEvent("logged-in"));
  }
  /* Whether the session lasts; a form's token is another one after each login. */
  async function ask() {
    try {
      const answer = await fetch(session, { redirect: "manual", cache: "no-store", credentials: "same-origin" });
      asked = Date.now();
      if (answer.type === "opaqueredirect") {
        ended();
        return false;
      }
      if (answer.ok) goesOn((await answer.json()).token);
    } catch { /* That the server cannot be reached says nothing about the session. */ }
    return true;
  }

  document.addEventListener("logged-out", ended);
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (!xhr?.responseURL || new URL(xhr.responseURL).pathname !== login) return;
    event.detail.shouldSwap = false;
    ended();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  window.addEventListener("focus", () => { if (line) ask(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) ask(); });

  /* What would be lost on the way to the login is not sent. */
  const waiting = new WeakSet();
  document.addEventListener("submit", async (event) => {
    const { target: form, submitter } = event;
    if (!form.querySelector("input[name=csrfmiddlewaretoken]") || (!line && Date.now() - asked < A_MINUTE)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (waiting.has(form)) return;
    waiting.add(form);
    /* Taken away, so that it is read out anew. */
    line?.remove();
    const lasts = await ask();
    waiting.delete(form);
    if (!lasts) return;
    [line, asked] = [null, Date.now()];
    form.requestSubmit(submitter);
  }, true);
}
