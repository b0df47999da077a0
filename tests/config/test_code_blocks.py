"""Code blocks of the documents: each has a language with a check here. Examples of the API run against a server."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import resolve

from audiences.models import Customer, Event, Integration, Subscription, Workspace

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ROOT = Path(__file__).resolve().parents[2]
# Its blocks need each other; `tests/clients/test_worked_examples.py` runs them.
EXAMPLES = ROOT / "docs" / "examples.md"
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")} - {EXAMPLES})
HOST = "https://outbound.example.com"
FENCE = re.compile(r"^( *)```(\S*) *\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
MAKE_TARGET, MANAGE_COMMAND = re.compile(r"^make ([\w-]+)", re.MULTILINE), re.compile(r"manage\.py ([a-z_]+)")
ENV_LINE = re.compile(r"([A-Z][A-Z_]+)=\S+(?: +# .+)?")
HTTP_LINE = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/\S+) +(\{.*?\})")
NGINX_LINE = re.compile(r"\s*(?:[\w /]+\{|[\w $:/.-]+;(?:\s+#.*)?|\})")


@dataclass(frozen=True)
class Server:
    """Where examples of the API go to, instead of the host in the documents."""

    url: str
    token: str


def run(*command: str, given: str = "", **environment: str) -> str:
    """Return the output of a program. Raise AssertionError with its errors if it fails."""
    done = subprocess.run(  # noqa: S603
        command, input=given, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr.strip()[-500:]
    return done.stdout


def check_shell(code: str, server: Server) -> None:
    """Parse commands; check the targets of make and the commands of manage.py; send requests of curl to the API."""
    run("bash", "-n", given=code)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {*MAKE_TARGET.findall(code)} <= targets
    assert {*MANAGE_COMMAND.findall(code)} <= set(get_commands())
    if code.startswith("curl") and shutil.which("curl"):
        answer = run("bash", given=code.replace("curl ", "curl -sS ").replace(HOST, server.url), TOKEN=server.token)
        assert json.loads(answer)["type"] != "error.list", answer


def check_python(code: str, server: Server) -> None:
    exec(compile(code.replace(HOST, server.url), "example", "exec"), {"TOKEN": server.token})  # noqa: S102 - ours


def check_script(code: str, server: Server) -> None:
    """Parse a script. One that calls the API runs."""
    if not (node := shutil.which("node")):
        return
    if HOST in code and "fetch(" in code:
        run(node, "--input-type=module", given=code.replace(HOST, server.url), TOKEN=server.token)
    else:
        run(node, "--check", "-", given=code)


def check_json(code: str, _server: Server) -> None:
    json.loads(code)


class Scripts(HTMLParser):
    """Collects the scripts of a page, and complains about elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)


def check_html(code: str, server: Server) -> None:
    page = Scripts()
    page.feed(code)
    assert page.open == []
    for script in page.scripts:
        check_script(script, server)


def check_environment(code: str, _server: Server) -> None:
    """Check that each line sets a variable that the settings read."""
    settings = "".join(path.read_text() for path in (ROOT / "config").glob("**/*.py"))
    for line in code.splitlines():
        found = ENV_LINE.fullmatch(line)
        assert found, line
        assert f'"{found[1]}"' in settings, found[1]


def check_http(code: str, _server: Server) -> None:
    """Check that each line is a request with JSON to an address that exists."""
    for line in code.splitlines():
        found = HTTP_LINE.match(line)
        assert found, line
        resolve(found[2])
        json.loads(found[3])


def check_nginx(code: str, server: Server) -> None:
    check_braces(code, server)
    assert [line for line in code.splitlines() if not NGINX_LINE.fullmatch(line)] == []


def check_braces(code: str, _server: Server) -> None:
    """Check that brackets outside of texts are closed in order."""
    open_: list[str] = []
    for sign in re.sub(r'"[^"]*"', "", code):
        if sign in "([{":
            open_.append({"(": ")", "[": "]", "{": "}"}[sign])
        elif sign in ")]}":
            assert open_[-1:] == [sign], sign
            open_.pop()
    assert open_ == []


CHECKS: dict[str, Callable[[str, Server], None]] = {
    "sh": check_shell,
    "python": check_python,
    "js": check_script,
    "json": check_json,
    "html": check_html,
    "env": check_environment,
    "http": check_http,
    "nginx": check_nginx,
    "kotlin": check_braces,
    # Diagrams, and configuration of programs that are not here: nothing to check.
    "text": lambda _code, _server: None,
}


def problems_in(document: str, *, server: Server) -> Iterator[str]:
    """Yield the line and the error of each code block that its check refuses."""
    for block in FENCE.finditer(document):
        line = document.count("\n", 0, block.start()) + 1
        check = CHECKS.get(block[2])
        if check is None:
            yield f"{line}: a code block needs one of the languages {', '.join(CHECKS)}, not “{block[2]}”"
            continue
        try:
            check(re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE), server)
        except Exception as wrong:  # noqa: BLE001 - of any example
            yield f"{line}: {type(wrong).__name__}: {wrong}"


@pytest.fixture
def server(live_server, settings) -> Server:
    settings.API_RATE_LIMIT = 0
    Workspace.current()
    return Server(live_server.url, Integration.issue(name="The reader")[1])


def test_every_code_block_in_the_documents_is_valid(server):
    problems = [
        f"{document.name}:{problem}"
        for document in DOCUMENTS
        for problem in problems_in(document.read_text(), server=server)
    ]

    assert problems == []
    assert {block[2] for block in FENCE.finditer(EXAMPLES.read_text())} == {"bash", "python", "javascript"}
    # The examples ran.
    assert Customer.objects.filter(user_id="25").exists()
    assert Event.objects.exists()
    assert Subscription.objects.exists() or not shutil.which("curl")


# Blocks that a check refuses, and the program without which it cannot.
INVALID = (
    ("", "anything", ""),
    ("ruby", "puts 1", ""),
    ("sh", "if true", ""),
    ("sh", "make nonsense", ""),
    ("sh", "python manage.py nonsense", ""),
    ("sh", f"curl {HOST}/api/nothing", "curl"),
    ("python", "import nonsense", ""),
    ("js", "let = ;", "node"),
    ("json", '{"a": ..}', ""),
    ("html", "<p><b></p>", ""),
    ("html", "<script>let = ;</script>", "node"),
    ("env", "NONSENSE=1", ""),
    ("http", 'POST /nothing {"a": 1}', ""),
    ("nginx", "server {\nlisten 80\n}", ""),
    ("kotlin", "fun a() { if (b) }}", ""),
)


def test_invalid_block_is_found(server):
    for language, code, program in INVALID:
        found = list(problems_in(f"# Title\n\n```{language}\n{code}\n```\n", server=server))
        expected = 0 if program and not shutil.which(program) else 1
        assert len(found) == expected, (language, code)
    assert {language for language, _, _ in INVALID} >= CHECKS.keys() - {"text"}
