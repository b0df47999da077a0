"""Logs contain no content and no addresses, whatever the error is."""

import json
import logging
import smtplib
import sys

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from config.logs import JsonLines, Lines
from tests.factories import CustomerFactory, MessageFactory

FORMATTERS = {"line": Lines("{message}", style="{"), "json": JsonLines()}
WRITTEN = "Nobody may read\nthis in a log"
ADDRESS = "ann.lee+1@mail.example.co.uk"


def refused_row() -> None:
    message = MessageFactory()
    version = message.version
    version.pk, version.body = None, WRITTEN
    with transaction.atomic():
        version.save(force_insert=True)


def same_address() -> None:
    CustomerFactory(email=ADDRESS, user_id=None)
    with transaction.atomic():
        CustomerFactory(email=ADDRESS, user_id=None)


def no_number() -> None:
    with transaction.atomic(), connection.cursor() as cursor, cursor.copy("COPY audiences_tag (id) FROM STDIN") as copy:
        copy.write(f"{ADDRESS}\n")


def refused_recipient() -> None:
    raise smtplib.SMTPRecipientsRefused({ADDRESS: (550, f"<{ADDRESS}> unknown".encode())})


def wrapped() -> None:
    try:
        same_address()
    except IntegrityError as wrong:
        raise RuntimeError("it went wrong after that") from wrong


@pytest.mark.django_db
@pytest.mark.parametrize("formatter", ["line", "json"])
@pytest.mark.parametrize("happens", [refused_row, same_address, no_number, refused_recipient, wrapped])
def test_logged_exception_has_no_content_and_no_address(happens, formatter):
    written = logged(happens, formatter)

    assert "Traceback" in written
    assert [word for word in ("Nobody may read", "this in a log", "ann.lee") if word in written] == [], written
    if happens is wrapped:
        assert "it went wrong after that" in written
    if happens in (refused_row, same_address, wrapped):
        assert "violates unique constraint" in written


def logged(happens, formatter: str) -> str:
    """Return the line that a log has for an exception."""
    try:
        happens()
    except (IntegrityError, psycopg.DataError, smtplib.SMTPException, RuntimeError) as wrong:
        about = (f"{ADDRESS}: %s", (str(wrong),), sys.exc_info())
        line = FORMATTERS[formatter].format(logging.LogRecord("outbound", logging.ERROR, "x.py", 1, *about))
        return " ".join(json.loads(line).values()) if formatter == "json" else line
    raise AssertionError("nothing went wrong")


@pytest.mark.parametrize(
    "kept", ["message 12 cannot be matched", "redis://127.0.0.1:6379/0", "user@host", "@shared_task", "a @ b.example"]
)
def test_text_that_is_not_an_address_is_kept(kept):
    assert FORMATTERS["line"].format(logging.LogRecord("outbound", logging.INFO, "x.py", 1, kept, (), None)) == kept


def test_root_logger_uses_the_formatter():
    assert [one for one in logging.getLogger().handlers if isinstance(one.formatter, Lines)]
