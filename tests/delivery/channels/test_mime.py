"""Our serialization of emails, compared with Django's."""

import random

import pytest
from django.core.mail import EmailMultiAlternatives
from hypothesis import example, given
from hypothesis import strategies as st

from delivery.channels import mime
from delivery.channels.mime import Mail

WORDS = st.one_of(
    st.text(),
    st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200),
    st.text(alphabet="ab ,;.<>=\t", min_size=60, max_size=100),
    st.from_regex(r"\A[a-z0-9:/._-]{50,150}\Z"),
)
LINES = st.lists(
    st.one_of(WORDS, st.sampled_from([".", "From here", "x" * 998, "x" * 999, "é" * 500, "-- "])), max_size=6
)
TEXTS = st.builds(lambda lines, end: end.join(lines), LINES, st.sampled_from(["\n", "\r\n", "\r"]))


def both_ways(monkeypatch, **of_the_mail) -> tuple[bytes, bytes]:
    """Return the email as serialized by us and by Django, with equal date and boundary; an error counts as its type."""
    monkeypatch.setattr(mime, "formatdate", lambda **_: "Mon, 04 May 2026 10:00:00 -0000")
    monkeypatch.setattr("django.core.mail.message.formatdate", lambda **_: "Mon, 04 May 2026 10:00:00 -0000")
    found = []
    for written in (
        lambda: Mail(**of_the_mail).content,
        lambda: EmailMultiAlternatives(**of_the_mail).message().as_bytes(linesep="\r\n"),
    ):
        random.seed(1)
        try:
            found.append(written())
        except Exception as wrong:  # noqa: BLE001 - whatever Django makes of it
            found.append(type(wrong).__name__.encode())
    return found[0], found[1]


@given(subject=WORDS, name=WORDS, link=WORDS, reply_to=WORDS, text=TEXTS, html=st.one_of(st.just(""), TEXTS))
@example(subject="a\nb", name="x", link="y", reply_to="z", text="t", html="h")
@example(subject="x" * 67, name="x" * 73, link="x" * 80, reply_to="", text="", html="h")
def test_bytes_are_djangos(subject, name, link, reply_to, text, html):
    with pytest.MonkeyPatch.context() as monkeypatch:
        ours, djangos = both_ways(
            monkeypatch,
            subject=subject,
            body=text,
            from_email=f"{name} <support@acme.example>",
            to=["ada@example.com"],
            reply_to=[reply_to] if reply_to else [],
            headers={"Message-ID": "<1@acme.example>", "List-Unsubscribe": link},
            alternatives=[(html, "text/html")] if html else [],
        )

    assert ours == djangos


@pytest.mark.parametrize(
    "unusual",
    [
        {"cc": ["eve@example.com"]},
        {"headers": {"From": "other@acme.example", "Message-ID": "<1@acme.example>"}},
        {"headers": {"Date": "yesterday", "Message-ID": "<1@acme.example>"}},
        {"attachments": [("a.txt", "text", "text/plain")]},
        {"alternatives": [("{}", "application/json")]},
    ],
    ids=str,
)
def test_unusual_emails_are_left_to_django(monkeypatch, unusual):
    ours, djangos = both_ways(
        monkeypatch,
        **{
            "subject": "Hi",
            "body": "text",
            "to": ["ada@example.com"],
            "headers": {"Message-ID": "<1@a.example>"},
            **unusual,
        },
    )

    assert ours == djangos
    assert b"Subject: Hi" in ours


def test_boundary_stands_in_no_part(monkeypatch):
    drawn = iter([7, 8])
    monkeypatch.setattr(mime.random, "randrange", lambda _: next(drawn))

    assert mime.boundary_for([b"--===============0000000000000000007=="]) == b"===============0000000000000000008=="


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada+tag@sub.Example.com", "ada+tag@sub.Example.com"),
        ("Ada <ada@example.com>", "ada@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@localhost", "ada@localhost"),
    ],
)
def test_envelope_has_the_bare_address(address, told):
    assert mime.mailbox(address) == told
