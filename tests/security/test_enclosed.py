"""Attachments of emails from strangers: their declared type is not trusted, and nothing in them runs."""

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


def store_file(name: str, content: bytes, kind: str) -> dict:
    upload = SimpleUploadedFile("x", content, kind)
    # As if no earlier check had seen the file.
    upload._name = name
    return attachments.store_file(upload)


@pytest.mark.parametrize(("name", "content", "kind"), HOSTILE)
def test_attachment_is_never_served_as_active_content(name, content, kind, settings):
    kept = store_file(name, content, kind)

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


def test_attachment_is_served_only_under_its_name(settings):
    address = store_file("notes.txt", HTML, "text/plain")["url"].removeprefix(settings.PUBLIC_URL)

    for name in ("notes.html", "setup.exe", "notes.txt%20", "notes.txt%E2%80%AE", ""):
        assert Client().get(f"{address.rpartition('/')[0]}/{name}").status_code == 404


def test_attachment_is_not_served_as_an_image(settings):
    address = store_file("page.png", HTML, "image/png")["url"].removeprefix(settings.PUBLIC_URL)
    key = address.split("/")[-2]

    for name in (key, f"{key}.png", f"{key}.bin", f"{key}/page.png"):
        assert Client().get(f"/messenger/images/{name}").status_code == 404


@pytest.mark.parametrize(
    "path", ["../secret_key", "%2e%2e/secret_key", "..%2f..%2fsecret_key", f"{NOBODYS}/..%2fx", f"{NOBODYS}/x"]
)
def test_no_other_file_is_served(path):
    assert Client().get(f"/messenger/files/{path}").status_code == 404
