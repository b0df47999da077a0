// Asking Outbound. Answers are {status, data}; what cannot be reached has the status 0. Nothing throws.

const script = document.currentScript;
let base = script && script.src ? new URL(script.src).origin : location.origin;
let token = null;
let listTag = null; // of the last list: while nothing changes, it is not sent again
const LIST = "conversations";

function forgetAnswers() {
  token = null;
  listTag = null;
}

async function ask(method, path, body) {
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
    options.keepalive = options.body.length < 50000; // what is noted on a click goes on while the page changes
  }
  // Pictures may take their time; whatever else hangs is tried again.
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

function said(answer) {
  const errors = answer.data && answer.data.errors;
  return (errors && errors[0] && errors[0].message) || "";
}
