"""The image and compose.yaml: their parts agree. `make image` runs their steps."""

import json
import re
import shlex
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
ROLES = ("web", "worker", "beat")


def given(word: str) -> list[str]:
    return re.findall(rf"^{word} (.*)$", DOCKERFILE, re.MULTILINE)


def test_all_apps_are_copied_and_the_builder_receives_them():
    copied = {source for line in given("COPY") for source in line.split()[:-1]}
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}

    assert copied == sent
    assert {"config", "outbound", "delivery", "messaging", "audiences", "templates", "static"} <= copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_roles_run_the_commands_of_the_procfile():
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    web = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", lines["web"])

    assert json.loads(given("CMD")[0]) == shlex.split(web)
    assert [SERVICES[role]["command"] for role in ("worker", "beat")] == [
        shlex.split(lines[role]) for role in ("worker", "beat")
    ]
    assert SERVICES["migrate"]["command"] == shlex.split(lines["release"])


def test_packages_are_pinned_and_processes_have_no_rights_to_the_code():
    assert any("--require-hashes --requirement /srv/outbound/requirements-extras.lock" in line for line in given("RUN"))
    assert given("USER") == ["outbound"]
    assert DOCKERFILE.index("USER outbound") > DOCKERFILE.rindex("\nRUN ")


def test_each_role_has_a_health_check_the_volume_and_the_secrets_of_the_environment():
    for role in ROLES:
        service = SERVICES[role]
        assert service["healthcheck"]["test"][:3] == ["CMD", "python", "container/healthcheck.py"]
        assert service["volumes"] == ["data:/srv/outbound/.data"]
        assert service["environment"]["SECRET_KEY"].startswith("${SECRET_KEY:?")
        assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["db"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


@pytest.mark.parametrize(
    ("status", "report", "broken"),
    [
        (200, {"database": {"ok": True}, "beat": {"ok": True}}, []),
        # Another part than those asked for.
        (503, {"database": {"ok": True}, "beat": {"ok": True}, "sweep": {"ok": False}}, []),
        (503, {"database": {"ok": True}, "beat": {"ok": False}}, ["beat"]),
        (503, {"database": {"ok": False}}, ["database", "beat"]),
    ],
)
def test_health_check_reads_the_parts_it_is_about(monkeypatch, status, report, broken):
    hosts: list[str] = []

    class Web(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            body = json.dumps(report).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    monkeypatch.setenv("ALLOWED_HOSTS", "outbound.example.com, other.example.com")
    spec = spec_from_file_location("healthcheck", ROOT / "container" / "healthcheck.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    healthcheck = module_from_spec(spec)
    spec.loader.exec_module(healthcheck)
    server = HTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert healthcheck.broken_parts(address, ["database", "beat"]) == broken
    finally:
        thread.join(5)
        server.server_close()
    assert hosts == ["outbound.example.com"]
