// What this browser keeps: a visitor's token, in a cookie of the customer's own site, else in its storage, else in this
// page alone. A user leaves nothing behind.

const WEEK = 7 * 24 * 60 * 60 * 1000;
const NAME = "outbound-visitor";
let inThisPage = null;

function attempt(action, otherwise) {
  try {
    return action();
  } catch (error) {
    return otherwise;
  }
}

function kept() {
  const cookie = attempt(() => document.cookie.match(/(?:^|; )outbound-visitor=([^;]*)/), null);
  return (cookie && attempt(() => decodeURIComponent(cookie[1]), null)) || stored() || inThisPage;
}

function stored() {
  const found = attempt(() => JSON.parse(localStorage.getItem(NAME)), null);
  return found && found.until > Date.now() ? found.token : null;
}

function keep(token, duration) {
  const lasts = duration > 0 ? duration : WEEK;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  const age = token ? Math.ceil(lasts / 1000) : 0;
  inThisPage = token;
  attempt(() => {
    document.cookie = `${NAME}=${encodeURIComponent(token || "")}; path=/; max-age=${age}; SameSite=Lax${secure}`;
  });
  attempt(() => {
    if (token) localStorage.setItem(NAME, JSON.stringify({ token, until: Date.now() + lasts }));
    else localStorage.removeItem(NAME);
  });
}

// Which snippets were closed, until the tab is.
const closed = new Set(attempt(() => JSON.parse(sessionStorage.getItem("outbound-closed")), null) || []);

function close(snippet) {
  closed.add(snippet);
  attempt(() => sessionStorage.setItem("outbound-closed", JSON.stringify([...closed].slice(-50))));
}

function forget() {
  keep(null);
  closed.clear();
  attempt(() => sessionStorage.removeItem("outbound-closed"));
}
