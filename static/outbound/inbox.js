/* The inbox: what is new comes without a reload, a draft outlives one, and images go with an answer. */
{
  /* Loaded before the page is: Alpine and Trix begin while it is being read. */
  const find = (id, within = document) => within.querySelector(`#${id}`);
  const facts = () => find("inbox").dataset;
  const token = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
  const EVERY = 4000, IDLE = 15000, HIDDEN = 60000, IDLE_AFTER = 5 * 60000;

  /* Looking for news: every few seconds, more slowly when nobody moves, rarely when nobody can see it. */
  let tag = "", timer = 0, looking = false, failed = 0, moved = Date.now();
  const address = () => {
    const found = new URL(facts().news, location.href);
    if (facts().of) found.searchParams.set("of", facts().of);
    return found;
  };
  const pace = () => (document.hidden ? HIDDEN : (Date.now() - moved > IDLE_AFTER ? IDLE : EVERY) * Math.min(2 ** failed, 8));
  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, pace());
  }
  async function look() {
    clearTimeout(timer);
    if (looking) return;
    looking = true;
    try {
      const answer = await fetch(address(), { headers: { "If-None-Match": tag }, cache: "no-store", credentials: "same-origin" });
      if (answer.redirected) return document.dispatchEvent(new CustomEvent("logged-out"));
      if (answer.status === 200) {
        tag = answer.headers.get("ETag") ?? "";
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } else if (answer.status !== 304) throw new Error(`${answer.status}`);
      failed = 0;
      trouble("");
    } catch {
      failed += 1;
      if (failed > 2) trouble("The console cannot be reached. What is new comes once it can.");
    } finally {
      looking = false;
    }
    later();
  }
  function trouble(sentence) {
    const says = find("inbox-trouble");
    says.textContent = sentence;
    says.hidden = !sentence;
  }

  function take(news) {
    const list = find("inbox-list"), newList = find("inbox-list", news);
    if (list && newList && list.innerHTML !== newList.innerHTML) {
      const top = find("inbox-rows")?.scrollTop ?? 0;
      const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      list.innerHTML = newList.innerHTML;
      if (find("inbox-rows")) find("inbox-rows").scrollTop = top;
      if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
      count();
    }
    if (!facts().of || !find("thread-parts", news)) return;
    const bar = find("thread-bar"), newBar = find("thread-bar", news);
    if (bar && newBar && !bar.contains(document.activeElement) && !bar.querySelector("details[open]")) bar.innerHTML = newBar.innerHTML;
    parts(news);
    find("thread-read").textContent = find("thread-read", news)?.textContent ?? "";
  }
  function parts(news) {
    const numbered = (item) => Number(item.id.replace("part-", "")) || 0;
    const here = find("thread-parts"), bottom = atBottom();
    const last = Math.max(0, ...[...here.children].map(numbered));
    const added = [...find("thread-parts", news).children].filter((item) => {
      const old = document.getElementById(item.id);
      if (old && old.innerHTML !== item.innerHTML && !old.contains(document.activeElement)) old.innerHTML = item.innerHTML;
      return !old && numbered(item) > last;
    });
    if (!added.length) return;
    here.append(...added);
    /* Nothing is put away over words that came after these. */
    document.querySelectorAll("input[name=upto]").forEach((field) => { field.value = Math.max(last, ...added.map(numbered)); });
    if (bottom) toBottom();
    const said = added.filter((item) => item.classList.contains("ob-part")).at(-1);
    if (said) find("inbox-said").textContent = `${said.querySelector(".ob-part-who")?.textContent ?? ""}: ${said.querySelector(".ob-part-body")?.textContent.trim() ?? ""}`;
    show_as_seen();
  }

  /* Somebody who answers has it before their eyes. */
  function show_as_seen() {
    if (facts().seen && !document.hidden) {
      fetch(facts().seen, { method: "POST", headers: { "X-CSRFToken": token() }, credentials: "same-origin" }).then(look, () => {});
    }
  }
  function count() {
    const unread = Number(find("inbox").querySelector("[data-unread]")?.dataset.unread ?? 0);
    document.querySelectorAll("[data-counted=inbox]").forEach((badge) => {
      badge.firstElementChild.textContent = unread > 999 ? "999+" : unread;
      badge.hidden = !unread;
    });
    document.title = document.title.replace(/^\(\d+\) /, "");
    if (unread) document.title = `(${unread}) ${document.title.trim()}`;
  }

  const scroller = () => {
    const scroll = find("thread-scroll");
    return scroll && scroll.scrollHeight > scroll.clientHeight + 1 ? scroll : document.scrollingElement;
  };
  const atBottom = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 80;
  const toBottom = () => { scroller().scrollTop = scroller().scrollHeight; };

  ["pointermove", "keydown", "scroll"].forEach((name) => document.addEventListener(name, () => {
    const slept = Date.now() - moved > IDLE_AFTER;
    moved = Date.now();
    if (slept) look();
  }, { passive: true, capture: true }));
  document.addEventListener("logged-in", () => look());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return later();
    look();
    if (find("inbox").querySelector(".ob-unseen[aria-current]")) show_as_seen();
  });
  /* A menu closes when one clicks elsewhere, or presses Escape. */
  document.addEventListener("click", (event) => {
    document.querySelectorAll(".ob-drop[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector(".ob-drop[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  /* Trix takes no files into the text: they go with the answer. */
  document.addEventListener("trix-file-accept", (event) => {
    event.preventDefault();
    event.target.dispatchEvent(new CustomEvent("files-taken", { bubbles: true, detail: [event.file] }));
  });
  const draft = {
    get key() { return `outbound-draft-${facts().of}`; },
    read() { try { return JSON.parse(sessionStorage.getItem(this.key) ?? "null"); } catch { return null; } },
    keep(what) { try { sessionStorage.setItem(this.key, JSON.stringify(what)); } catch { /* Storage is blocked. */ } },
    forget() { try { sessionStorage.removeItem(this.key); } catch { /* Storage is blocked. */ } },
  };
  document.addEventListener("trix-initialize", (event) => {
    const { target } = event;
    target.setAttribute("placeholder", "Write an answer");
    target.toolbarElement?.querySelectorAll("button[title]").forEach((button) => button.setAttribute("aria-label", button.title));
    const kept = draft.read();
    if (kept?.body && !target.inputElement.value) target.editor.loadHTML(kept.body);
  });

  document.addEventListener("alpine:init", () => {
    Alpine.data("answer", () => ({
      kind: draft.read()?.kind === "note" ? "note" : "reply", names: [], sending: false,
      init() {
        if (location.pathname.endsWith("/note/")) this.kind = "note";
        this.$root.addEventListener("trix-change", () => this.keep());
        if (this.$root.querySelector(".ob-error")) this.$nextTick(() => this.$root.scrollIntoView({ block: "end" }));
      },
      get body() { return this.$root.querySelector("input[name=body]").value; },
      keep() { if (this.body) draft.keep({ body: this.body, kind: this.kind }); else draft.forget(); },
      turn(kind) {
        this.kind = kind;
        const editor = this.$root.querySelector("trix-editor");
        editor.setAttribute("aria-label", kind === "note" ? "Note" : "Answer");
        editor.setAttribute("placeholder", kind === "note" ? "Write a note for the team" : "Write an answer");
        editor.focus();
        this.keep();
      },
      add(files) {
        const all = new DataTransfer();
        [...this.$refs.files.files, ...files].forEach((file) => all.items.add(file));
        this.$refs.files.files = all.files;
        this.picked();
      },
      remove(index) {
        const left = new DataTransfer();
        [...this.$refs.files.files].forEach((file, at) => { if (at !== index) left.items.add(file); });
        this.$refs.files.files = left.files;
        this.picked();
      },
      picked() { this.names = [...this.$refs.files.files].map((file) => file.name); },
      send() { this.$root.requestSubmit(this.$refs[this.kind]); },
      /* A second click finds the buttons asleep; the server would also know the form again. */
      submitted(event) {
        if (this.sending) return event.preventDefault();
        this.sending = true;
        draft.forget();
      },
    }));
  });

  document.addEventListener("DOMContentLoaded", () => {
    tag = facts().tag;
    /* A conversation opens at its end, the list at its beginning. */
    if (facts().of) toBottom();
    count();
    if (find("inbox").querySelector(".ob-unseen[aria-current]")) show_as_seen();
    else later();
  });
}
