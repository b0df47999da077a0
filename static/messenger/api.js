// Requests to Outbound. An answer is {status, data}; the status is 0 if the server could not be reached.
(function (messenger) {
  "use strict";

  const { attempt } = messenger;
  const LIST = "conversations";
  const script = document.currentScript;
  const address = script && script.src ? new URL(script.src) : location;
  // The same script for pages written for Intercom: it answers to window.Intercom too, and reads intercomSettings.
  const isIntercom = /\/intercom\.js$/.test(address.pathname);
  let base = address.origin;
  let token = null;
  let listTag = null; // the ETag of the last list: the server does not send an unchanged list again

  function setApiBase(given) {
    const { hostname, origin } = new URL(given, location.href);
    // A wrapper sets the address of the service that it was written for.
    if (!/(^|\.)intercom\.io$/.test(hostname)) base = origin;
  }

  function setSessionToken(value) {
    token = value;
  }

  function forgetListTag() {
    listTag = null;
  }

  async function request(method, path, body) {
    const headers = {};
    const options = { method, headers, credentials: "omit", mode: "cors", cache: "no-store" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const isList = method === "GET" && path.split("?")[0] === LIST;
    if (isList && listTag) headers["If-None-Match"] = listTag;
    if (body instanceof FormData) {
      options.body = body;
    } else if (method === "POST") {
      headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body || {});
      options.keepalive = options.body.length < 50000; // a click is still reported while the page changes
    }
    // Uploads may take long; any other request that hangs is repeated.
    if (!(body instanceof FormData)) options.signal = attempt(() => AbortSignal.timeout(90000));
    try {
      const answer = await fetch(`${base}/messenger/${path}`, options);
      const data = answer.status === 304 ? null : await answer.json();
      if (isList && answer.ok) listTag = answer.headers.get("ETag");
      return { status: answer.status, data };
    } catch (error) {
      return { status: 0, data: null };
    }
  }

  function errorMessage(answer) {
    const errors = answer.data && answer.data.errors;
    return (errors && errors[0] && errors[0].message) || "";
  }

  Object.assign(messenger, { LIST, isIntercom, setApiBase, setSessionToken, forgetListTag, request, errorMessage });
})(messenger);
