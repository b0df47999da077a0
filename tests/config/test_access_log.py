"""The access log has no secrets of a request, in any format."""

import base64
import logging

import pytest

from audiences.models import Integration
from config.logs import ErrorLogFilter, masked_target, masked_text
from tests.factories import CustomerFactory
from tests.support.web_process import web_process

SECRET = "s3cr3t-0f-s0meb0dy-1234567890"
EVERYTHING = (
    '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(m)s %(U)s %(q)s %(H)s %(s)s "%(f)s" "%(a)s" %({authorization}i)s %({cookie}i)s'
    " %({x-api-key}i)s %({set-cookie}o)s %({location}o)s %({raw_uri}e)s %({http_authorization}e)s %({query_string}e)s"
    " %({user-agent}i)s"
)


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("access_format", [None, EVERYTHING])
def test_access_log_of_a_web_process_has_no_token_and_no_query_values(tmp_path, access_format):
    _, token = Integration.issue(name="The shop")
    CustomerFactory(user_id="ann", email="ann@x.example")
    basic = base64.b64encode(f"{token}:".encode()).decode()
    hook = base64.b64encode(b"provider:secret").decode()
    wanted = ("--access-logfile", "-", "--log-level", "debug")
    if access_format:
        wanted = (*wanted, "--access-logformat", access_format)

    with web_process(tmp_path, *wanted) as web:
        assert "200 OK" in web.get("/api/users?user_id=ann", Authorization=f"Basic {basic}")
        assert "200 OK" in web.get("/api/me", Authorization=f"Bearer {token}")
        assert "400 Bad" in web.get(f"/api/users?access_token={token}&page=2", Authorization=f"Bearer {token}")
        web.get(f"/api/users?{token}")
        for target in (
            f"/m/o/{SECRET}.gif",
            f"/m/c/{SECRET}/1",
            f"/m/unsubscribe/{SECRET}",
            f"/m%2Fc/{SECRET}/1",
            f"/%6d/unsubscribe/{SECRET}",
            f"/messenger/files/{SECRET}/{SECRET}.pdf",
            f"/admin/password/MQ/{SECRET}/",
            f"/admin/invitation/MQ/{SECRET}/",
            f"/admin/account/second-factor/{SECRET}/",
            f"/admin/login/?next=/admin/password/MQ/{SECRET}/",
            f"/nowhere?token={SECRET}",
        ):
            web.get(target, Referer=f"https://outbound.example.com{target}", Cookie=f"sessionid={SECRET}")
        web.get("/messenger/conversations", Authorization=f"Bearer {SECRET}", X_Api_Key=SECRET)
        web.get("/webhooks/anymail/postmark/tracking/", method="POST", Authorization=f"Basic {hook}")
        web.send(f"GET /nowhere?token={SECRET} HTTP/9.9\r\nHost: x\r\n\r\n")
        web.send(f"GET /m/c/{SECRET}/1 HTTP/1.1\r\nHost: x\r\nBad Header {SECRET}\r\n\r\n")
    written = web.log.read_text()

    assert "/api/users?user_id=…" in written
    assert "/m/c/…" in written
    assert "/admin/invitation/…" in written
    for secret in (token, token[:8], basic, SECRET, hook, "provider", "ann@x"):
        assert secret not in written, written


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Error handling request /m/c/{SECRET}/1", "Error handling request /m/c/…"),
        (
            f"Error handling request /api/users?email=a%40x.example&t={SECRET}",
            "Error handling request /api/users?email=…&t=…",
        ),
        (f"Authorization: Basic {SECRET}=", "Authorization: Basic …"),
        (f"'HTTP_AUTHORIZATION': 'bearer {SECRET}'", "'HTTP_AUTHORIZATION': 'bearer …'"),
        (f"POST https://shop:{SECRET}@hooks.example/in failed", "POST https://…@hooks.example/in failed"),
        (f"redis://:{SECRET}@redis.internal/1", "redis://…@redis.internal/1"),
        (f"Not Found: /admin/password/MQ/{SECRET}/", "Not Found: /admin/password/…"),
        ("/admin/password/forgotten/", "/admin/password/forgotten/"),
        ("a basic list, a bearer of news; is it so? yes=no", "a basic list, a bearer of news; is it so? yes=no"),
    ],
)
def test_text_of_a_log_has_no_secret(said, kept):
    assert masked_text(said) == kept


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/api/users?user_id=25&x", "/api/users?user_id=…&…"),
        ("/api/users", "/api/users"),
        (f"/%6d/o/{SECRET}.gif", "/…"),
    ],
)
def test_query_string_keeps_only_its_names(target, kept):
    assert masked_target(target) == kept


def test_report_of_a_failed_request_and_its_traceback_have_no_secret():
    try:
        int(f"/m/c/{SECRET}/1")
    except ValueError as wrong:
        about = (type(wrong), wrong, wrong.__traceback__)
    record = logging.LogRecord("gunicorn.error", logging.ERROR, "x.py", 1, "At %s", (f"/?token={SECRET}",), about)

    assert ErrorLogFilter().filter(record)

    line = logging.Formatter().format(record)
    assert line.startswith("At /?token=…\nTraceback")
    assert SECRET not in line


@pytest.mark.parametrize("what", ["Invalid HTTP Header: 'Bad {}'", "Invalid HTTP request line: 'GET /{} x'"])
def test_unreadable_request_is_not_quoted(what):
    said = f"Invalid request from ip=127.0.0.1: {what.format(SECRET)}"
    record = logging.LogRecord("gunicorn.error", logging.WARNING, "x.py", 1, said, (), None)

    ErrorLogFilter().filter(record)

    assert record.getMessage() == said.partition(": ")[0] + f": {what.partition(':')[0]}: …"
