"""Files a stranger sends by mail: what they say they are counts for nothing, and nothing of them runs here."""

import re
from email.message import Message
from email.utils import collapse_rfc2231_value

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from delivery.conversations import attachments

HTML = b"<!doctype html><script>fetch('/admin/')</script>"
NOBODYS = "0f" * 16
HOSTILE = [
    ("page.html", HTML, "text/html"),
    ("page.xhtml", HTML, "application/xhtml+xml"),
    ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image/svg+xml"),
    ("page.xml", b"<x xmlns:h='http://www.w3.org/1999/xhtml'><h:script>alert(1)</h:script></x>", "text/xml"),
    ("page.js", b"alert(1)", "text/javascript"),
    ("page.png", HTML, "image/png"),
    ("page.html\r\nContent-Type: text/html\r\n\r\n", HTML, "text/html\r\nX: y"),
    ('page.html"; filename="evil.html', HTML, 'text/html"; charset="utf-7'),
    ("", HTML, ""),
]


@pytest.fixture(autouse=True)
def files(settings, tmp_path) -> None:
    settings.MEDIA_ROOT = tmp_path


def keep(name: str, content: bytes, kind: str) -> dict:
    upload = SimpleUploadedFile("x", content, kind)
    # As it would be where nothing before us had looked at it.
    upload._name = name
    return attachments.store_file(upload)


@pytest.mark.parametrize(("name", "content", "kind"), HOSTILE)
def test_a_file_is_never_served_as_what_runs(name, content, kind, settings):
    kept = keep(name, content, kind)

    answer = Client().get(kept["url"].removeprefix(settings.PUBLIC_URL))

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/octet-stream"
    told = Message()
    told["Content-Disposition"] = answer["Content-Disposition"]
    assert (told.get_content_disposition(), collapse_rfc2231_value(told.get_filename())) == ("attachment", kept["name"])
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r"default-src 'none'; sandbox", answer["Content-Security-Policy"])
    assert not kept["content_type"].startswith("image/")
    assert b"".join(answer.streaming_content) == content


def test_nobody_hands_on_a_file_under_another_name(settings):
    address = keep("notes.txt", HTML, "text/plain")["url"].removeprefix(settings.PUBLIC_URL)

    for name in ("notes.html", "setup.exe", "notes.txt%20", "notes.txt%E2%80%AE", ""):
        assert Client().get(f"{address.rpartition('/')[0]}/{name}").status_code == 404


def test_a_file_is_not_to_be_had_as_an_image(settings):
    address = keep("page.png", HTML, "image/png")["url"].removeprefix(settings.PUBLIC_URL)
    key = address.split("/")[-2]

    for name in (key, f"{key}.png", f"{key}.bin", f"{key}/page.png"):
        assert Client().get(f"/messenger/images/{name}").status_code == 404


@pytest.mark.parametrize(
    "path", ["../secret_key", "%2e%2e/secret_key", "..%2f..%2fsecret_key", f"{NOBODYS}/..%2fx", f"{NOBODYS}/x"]
)
def test_there_is_no_other_file_there(path):
    assert Client().get(f"/messenger/files/{path}").status_code == 404
