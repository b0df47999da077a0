"""Pages written for Intercom: three wrappers that its customers use call our messenger, and so does our own snippet.

The wrappers are the published ones, in `vendor`, each used as its documentation says. Their frameworks are replaced by
the few functions that the wrappers call.
"""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from audiences.models import Customer, Event
from delivery.messenger import script
from tests.browser.test_messenger import LAUNCHER, address, eventually, ours, signed  # noqa: F401 - a fixture
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db(transaction=True)

PANEL = "outbound-messenger .panel"
VENDOR = Path(__file__).parent / "vendor"
# CommonJS as a bundler joins it.
SDK = """(function () {
  const files = { %s }, loaded = {};
  const require = (name) => {
    if (!loaded[name]) files[name](loaded[name] = {}, require);
    return loaded[name];
  };
  window.wrapper = require("./index");
})();"""
REACT = """let slots = [], at = 0, value;
const slot = (first) => { if (!(at in slots)) slots[at] = first; return at++; };
export const createContext = () => ({});
export const useContext = () => value;
export const useRef = (first) => slots[slot({ current: first })];
export const useCallback = (action) => action;
export const useMemo = (make) => make();
export const createElement = (type, props) => { value = props.value; };
let render;
export const useState = (first) => {
  const mine = slot(first);
  return [slots[mine], (next) => { slots[mine] = next; render(); }];
};
export function mount(component, props) {
  render = () => { at = 0; component(props); };
  render();
  return () => value;
}"""
VUE = """function Vue(options) { Object.assign(this, options && options.data ? options.data() : {}); }
const mounted = [];
Vue.mixin = (part) => mounted.push(part.mounted);"""
# What a page puts before its wrapper if the wrapper cannot load the script from another host.
STUB = """<script>
  window.Intercom = window.Intercom || function () {{ (Intercom.q = Intercom.q || []).push(arguments); }};
</script><script async src="{server}/messenger/intercom.js"></script>"""
HEAD = "<!doctype html><html lang=en><head><title>x</title></head><body>"
NOTES = """<script>window.shown = 0; window.hidden = 0; window.unread = []; window.problems = [];
  window.onerror = (what) => problems.push(what);
  document.addEventListener("securitypolicyviolation", (wrong) => problems.push(wrong.violatedDirective));</script>"""


def vendored(name: str) -> str:
    return (VENDOR / name).read_text()


def sdk_page(site, *, server: str, user: dict) -> str:
    names = ("index", "constants", "instance-manager")
    files = (f'"./{name}": function (exports, require) {{{vendored(f"messenger-js-sdk/{name}.js")}}}' for name in names)
    site.put("/sdk.js", SDK % ",".join(files))
    given = {"app_id": "abc", "widgetUrl": f"{server}/messenger/intercom.js", **user}
    return f"""<script src="/sdk.js"></script><script>
      wrapper.Intercom({json.dumps(given)});
      wrapper.onShow(() => shown++); wrapper.onHide(() => hidden++);
      wrapper.onUnreadCountChange((count) => unread.push(count));
      wrapper.onUserEmailSupplied(() => 0);
    </script>"""


def react_page(site, *, server: str, user: dict) -> str:
    site.put("/react.js", REACT)
    site.put("/react-use-intercom.js", vendored("react-use-intercom/index.js"))
    props = {"userId": user["user_id"], "userHash": user["user_hash"], "name": user["name"], "themeMode": "dark"}
    return f"""{STUB.format(server=server)}
    <script type="importmap">{{"imports": {{"react": "/react.js"}}}}</script>
    <script type="module">
      import {{ mount }} from "react";
      import {{ IntercomProvider }} from "/react-use-intercom.js";
      const current = mount(IntercomProvider, {{
        appId: "abc", autoBoot: true, autoBootProps: {json.dumps(props)}, apiBase: "https://api-iam.intercom.io",
        onShow: () => shown++, onHide: () => hidden++, onUnreadCountChange: (count) => unread.push(count),
      }});
      window.wrapper = new Proxy({{}}, {{ get: (_, name) => current()[name] }});
    </script>"""


def vue_page(site, *, server: str, user: dict) -> str:
    site.put("/vue-intercom.js", vendored("vue-intercom/vue-intercom.js"))
    return f"""{STUB.format(server=server)}
    <script>{VUE}</script><script src="/vue-intercom.js"></script>
    <script>
      VueIntercom.install(Vue, {{ appId: "abc" }});
      const app = new Vue();
      for (const hook of mounted) hook.call(app);
      window.wrapper = app.$intercom;
      wrapper.boot({json.dumps(user)});
      Intercom("onShow", () => shown++); Intercom("onHide", () => hidden++);
      Intercom("onUnreadCountChange", (count) => unread.push(count));
    </script>"""


WRAPPERS = {"messenger-js-sdk": sdk_page, "react-use-intercom": react_page, "vue-intercom": vue_page}


def call(page: Page, name: str, *given: object) -> object:
    """Call a method of the wrapper, or the command itself if the wrapper does not have it."""
    return page.evaluate(
        "([name, given]) => wrapper[name] ? wrapper[name](...given) : Intercom(name, ...given)", [name, list(given)]
    )


def test_snippet_and_wrappers_start_and_command_the_messenger(live_server, site, page, context):
    server = address(live_server)
    policy = f"default-src 'none'; script-src 'unsafe-inline' {server}; connect-src {server}; img-src {server}"
    policy = f"{policy}; require-trusted-types-for 'script'; trusted-types 'none'"
    snippet = script.snippet(address=server, settings_of="{}")
    page.goto(
        site.put("/", f"<!doctype html><html lang=en><title>x</title>{NOTES}{snippet}", Content_Security_Policy=policy)
    )
    expect(page.locator(LAUNCHER)).to_be_visible()
    assert page.evaluate("problems") == []
    page.close()

    for name, build in WRAPPERS.items():
        CustomerFactory(user_id=name)
        lines: list[str] = []
        on = context.new_page()
        on.on("console", lambda line, lines=lines: lines.append(line.text))
        user = signed(user_id=name, name="Ann")
        on.goto(site.put(f"/{name}", HEAD + NOTES + build(site, server=server, user=user)))
        expect(on.locator(LAUNCHER)).to_be_visible()
        commands_work(on, lines, user_id=name)
        assert on.evaluate("problems") == []
        on.close()


def commands_work(page: Page, lines: list[str], *, user_id: str) -> None:
    """Go through the commands of a wrapper that has booted."""
    customers = Customer.objects.filter(user_id=user_id)
    eventually(lambda: customers.filter(name="Ann", last_seen_at__isnull=False).exists(), page)
    assert customers.get().attributes == {}
    panel = page.locator(PANEL)

    call(page, "show")
    expect(panel).to_be_visible()
    call(page, "hide")
    expect(panel).to_be_hidden()
    call(page, "showNewMessage", "Where is my order?")
    expect(page.get_by_role("textbox", name="Write a message")).to_have_value("Where is my order?")
    call(page, "showMessages")
    call(page, "hide")
    assert page.evaluate("[shown, hidden]") == [2, 2]
    assert page.evaluate("unread")[0] == 0
    assert call(page, "getVisitorId") == user_id

    call(page, "update", {"phone": "+49 1"})
    eventually(lambda: customers.filter(phone="+49 1").exists(), page)
    call(page, "trackEvent", "ordered", {"price": 5})
    eventually(lambda: Event.objects.filter(customer__user_id=user_id, name="ordered").exists(), page)

    for _ in range(2):
        for command in ("startTour", "showArticle", "startSurvey", "showSpace", "whoami"):
            call(page, command, "help")
    assert sorted(line for line in lines if line.startswith("Outbound:")) == [
        f"Outbound: {command} has no effect in this messenger"
        for command in ("showArticle", "showSpace help", "startSurvey", "startTour", "whoami")
    ]
    call(page, "shutdown")
    expect(page.locator(LAUNCHER)).to_have_count(0)
