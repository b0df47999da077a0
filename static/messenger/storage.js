// Browser storage. A visitor's token is kept in a cookie of the website's widest domain (so that www.example.com and
// app.example.com share the visitor), else in localStorage, else only in this page. A user's browser stores nothing.
(function (messenger) {
  "use strict";

  const WEEK = 7 * 24 * 60 * 60 * 1000;
  const TOKEN_NAME = "outbound-visitor";
  const CLOSED_NAME = "outbound-closed";
  let tokenOfPage = null;
  let cookieDomain = null;

  // Run an action that the browser may forbid.
  function attempt(action, fallback) {
    try {
      return action();
    } catch (error) {
      return fallback;
    }
  }

  function setCookie(name, value, maxAge, domain) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${value}; path=/; max-age=${maxAge}; SameSite=Lax${secure}${domain}`;
  }

  // The widest domain this page may set a cookie for, or "" for its own host. Only browsers know which are too wide.
  function widestDomain() {
    if (cookieDomain !== null) return cookieDomain;
    cookieDomain = "";
    const parts = /^[\d.]+$|:/.test(location.hostname) ? [] : location.hostname.split(".");
    for (let count = 2; count <= parts.length && !cookieDomain; count += 1) {
      const domain = `; domain=${parts.slice(-count).join(".")}`;
      setCookie(`${TOKEN_NAME}-try`, "1", 60, domain);
      if (document.cookie.includes(`${TOKEN_NAME}-try=1`)) cookieDomain = domain;
      setCookie(`${TOKEN_NAME}-try`, "", 0, domain);
    }
    return cookieDomain;
  }

  function loadVisitorToken() {
    const cookie = attempt(() => document.cookie.match(/(?:^|; )outbound-visitor=([^;]*)/), null);
    const stored = attempt(() => JSON.parse(localStorage.getItem(TOKEN_NAME)), null);
    return (
      (cookie && attempt(() => decodeURIComponent(cookie[1]), null)) ||
      (stored && stored.until > Date.now() ? stored.token : null) ||
      tokenOfPage
    );
  }

  // Store the token for `duration` milliseconds, or a week; null deletes it.
  function saveVisitorToken(token, duration) {
    const lifetime = duration > 0 ? duration : WEEK;
    const maxAge = token ? Math.ceil(lifetime / 1000) : 0;
    tokenOfPage = token;
    attempt(() => {
      if (widestDomain()) setCookie(TOKEN_NAME, "", 0, "");
      setCookie(TOKEN_NAME, encodeURIComponent(token || ""), maxAge, widestDomain());
    });
    attempt(() => {
      if (token) localStorage.setItem(TOKEN_NAME, JSON.stringify({ token, until: Date.now() + lifetime }));
      else localStorage.removeItem(TOKEN_NAME);
    });
  }

  // Snippets that were closed in this browser tab.
  const closedSnippets = new Set(attempt(() => JSON.parse(sessionStorage.getItem(CLOSED_NAME)), null) || []);

  function saveClosedSnippet(key) {
    closedSnippets.add(key);
    attempt(() => sessionStorage.setItem(CLOSED_NAME, JSON.stringify([...closedSnippets].slice(-50))));
  }

  function clearStorage() {
    saveVisitorToken(null);
    closedSnippets.clear();
    attempt(() => sessionStorage.removeItem(CLOSED_NAME));
  }

  Object.assign(messenger, { attempt, loadVisitorToken, saveVisitorToken, closedSnippets, saveClosedSnippet, clearStorage });
})(messenger);
