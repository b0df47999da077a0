"""An event that cannot be measured is a dash, not 0: replies to email without an inbound domain."""

import re

import pytest

from delivery.models import DeliveryRecord
from outbound.console.wording import measurable_events
from tests.factories import AT, CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db


@pytest.fixture
def news():
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(title="News", one_off=True, live=True)
    mark_records_sent(DeliveryRecord.objects.all(), at=AT)
    return message


def figure(console, message, label):
    page = console.get(f"/admin/messaging/message/{message.pk}/change/")
    found = {row["label"]: (row["number"], row["share"]) for row in page.context["figures"]}
    return found[label]


def cell(console, column):
    page = console.get("/admin/messaging/message/").content.decode()
    found = re.search(rf"<td[^>]*field-{column}[^>]*>(.*?)</td>", page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def test_without_an_inbound_domain_replies_are_a_dash(console, news, settings):
    settings.INBOUND_DOMAIN = ""

    assert figure(console, news, "Replied") == (None, "Not measured")
    assert cell(console, "replied") == "–"


def test_with_an_inbound_domain_no_replies_are_zero(console, news, settings):
    settings.INBOUND_DOMAIN = "reply.acme.example"

    assert figure(console, news, "Replied") == (0, "0 %")
    assert cell(console, "replied") == "0 0 %"


def test_only_replies_to_email_hang_on_it(settings):
    settings.INBOUND_DOMAIN = "reply.acme.example"
    with_one = {channel: measurable_events(channel) for channel in ("email", "in_app", "push")}
    settings.INBOUND_DOMAIN = ""

    assert [channel for channel, found in with_one.items() if found != measurable_events(channel)] == ["email"]
