// What this browser keeps: a visitor's token, in a cookie of the customer's own site (of all of example.com, so that who
// wrote on www.example.com and logs in on app.example.com is the same person), else in its storage, else in this
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

function bake(name, value, age, domain) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `${name}=${value}; path=/; max-age=${age}; SameSite=Lax${secure}${domain}`;
}

// The widest domain this page may set a cookie for; nothing where that is its own host. Browsers know which are too wide.
let found = null;
function widest() {
  if (found !== null) return found;
  found = "";
  const parts = /^[\d.]+$|:/.test(location.hostname) ? [] : location.hostname.split(".");
  for (let many = 2; many <= parts.length && !found; many += 1) {
    const domain = `; domain=${parts.slice(-many).join(".")}`;
    bake(`${NAME}-try`, "1", 60, domain);
    if (document.cookie.includes(`${NAME}-try=1`)) found = domain;
    bake(`${NAME}-try`, "", 0, domain);
  }
  return found;
}

function stored() {
  const found = attempt(() => JSON.parse(localStorage.getItem(NAME)), null);
  return found && found.until > Date.now() ? found.token : null;
}

function keep(token, duration) {
  const lasts = duration > 0 ? duration : WEEK;
  const age = token ? Math.ceil(lasts / 1000) : 0;
  inThisPage = token;
  attempt(() => {
    if (widest()) bake(NAME, "", 0, "");
    bake(NAME, encodeURIComponent(token || ""), age, widest());
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
