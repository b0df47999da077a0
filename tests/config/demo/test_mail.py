"""A reply written on /demo/mail/ arrives by email in the Inbox."""

import re

import pytest
from django.test import Client

from audiences.models import Customer
from config.demo import mail as kept
from delivery import rendering, reply_addresses
from delivery.models import ConversationPart, DeliveryRecord
from messaging.content.plain_text import html_to_text
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db

MAIL = """\
From: Sam <sam@fernwood.example>
To: ann@x.example
Reply-To: Sam <%s>
Subject: Welcome
Message-ID: %s
Content-Type: text/plain; charset="utf-8"

Hello Ann, this is how you begin.
"""


@pytest.fixture
def record(at, settings, tmp_path, monkeypatch) -> DeliveryRecord:
    settings.INBOUND_DOMAIN = "reply.fernwood.example"
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    CustomerFactory(user_id="ann", email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at).records.get()


@pytest.fixture
def address(record, settings) -> str:
    """The page of Ann's email, with the URLs of DEMO."""
    content = MAIL % (reply_addresses.reply_address(record), rendering.message_id(record.pk))
    kept.save_email(content.encode(), recipient="ann@x.example", folder=kept.FOLDER, at_ns=1, number=1)
    settings.ROOT_URLCONF = "tests.support.demo_urls"
    (mail,) = kept.list_newest(folder=kept.FOLDER)
    return f"/demo/mail/{mail.key}/"


def test_reply_written_in_the_demo_is_in_the_inbox(record, address):
    browser = Client(enforce_csrf_checks=True)
    page = browser.get(address).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
    assert "As ann@x.example" in page

    answered = browser.post(address, {"words": "Yes, please!\nAnn", "csrfmiddlewaretoken": token}, follow=True)

    assert "is in the <a" in answered.content.decode()
    part = ConversationPart.objects.get()
    assert (html_to_text(part.body), part.conversation.record, part.by_customer) == ("Yes, please!\nAnn", record, True)
    record.refresh_from_db()
    assert record.replied_at is not None


def test_two_replies_are_two_parts(address):
    for words in ("One", "Two"):
        Client().post(address, {"words": words})

    assert {html_to_text(part.body) for part in ConversationPart.objects.all()} == {"One", "Two"}


def test_empty_reply_is_not_sent(address):
    assert Client().post(address, {"words": "  "}).status_code == 200

    assert not ConversationPart.objects.exists()


def test_refused_reply_shows_the_reason(address):
    Customer.objects.update(email=None, user_id=None, name="", archived_at="2026-05-04T10:00:00Z")

    answered = Client().post(address, {"words": "Hello?"}, follow=True)

    assert "did not recognise it as a reply" in answered.content.decode()


def test_email_with_another_reply_address_has_no_reply_form(address):
    content = (MAIL % ("sam@fernwood.example", "<1@x>")).encode()
    kept.save_email(content, recipient="bea@x.example", folder=kept.FOLDER, at_ns=2, number=2)
    (mail,) = kept.list_newest(folder=kept.FOLDER, recipient="bea")

    page = Client().get(f"/demo/mail/{mail.key}/").content.decode()

    assert "<textarea" not in page
    assert "does not receive emails to its reply address" in page
