"""Clicks on links of in-app messages, counted like those of emails."""

import html
import re

import pytest

from audiences.models import Customer
from delivery.models import DeliveryRecord, Link, Status, VisitorKind
from delivery.tracking import hits
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db

BODY = (
    '<p><a href="https://acme.example/new?u={{ user_id }}&amp;n={{ name }}">New</a> <a href="https://acme.example/old">'
    'Old</a> <a href="{{ custom_attributes.site }}">Yours</a></p>'
)


class Reader(Browser):
    """A customer who sees a message with links."""

    links: list[str]

    def follows(self, **said: object):
        return self.say(f"messages/{DeliveryRecord.objects.get().pk}/clicked", **said)


@pytest.fixture
def reader() -> Reader:
    CustomAttributeFactory(name="site")
    CustomerFactory(user_id="ann", name="A & B “C”", attributes={"site": "https://ann.example/"})
    MessageFactory(in_app=True, body=BODY, live=True)
    reader = Reader()
    (shown,) = reader.ping(user_id="ann").json()["messages"]
    reader.links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', shown["body"])]
    return reader


def clicks() -> dict[str, tuple[int, int]]:
    """Return the number of people and of clicks for each link."""
    return {each.address: (each.people, each.clicks) for each in hits.clicks_of(DeliveryRecord.objects.get().message)}


def test_clicks_are_counted_by_link(reader):
    new, old, yours = reader.links
    for link in (old, old, new, yours):
        assert reader.follows(link=link).status_code == 200

    assert clicks() == {
        "https://acme.example/old": (1, 2),
        "https://acme.example/new?u={{ user_id }}&n={{ name }}": (1, 1),
    }


@pytest.mark.parametrize(
    "said", [{}, {"link": None}, {"link": "https://evil.example/"}, {"link": "https://acme.example/old?x"}]
)
def test_unknown_link_still_counts_as_a_click(reader, said):
    assert reader.follows(**said).status_code == 200

    assert set(clicks().values()) <= {(0, 0)}
    assert DeliveryRecord.objects.get().clicked_at


@pytest.mark.parametrize("link", [["x"], {"a": 1}, True, "x" * 30_000, "\x00"])
def test_link_that_is_not_text_is_refused(reader, link):
    answer = reader.follows(link=link)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "link")


def test_in_app_click_is_not_an_email_click(reader, at):
    """Reclassifying scanner clicks recalculates `last_clicked_email_at` from clicks in emails only."""
    reader.follows(link=reader.links[1])
    email, customer = MessageFactory(live=True), Customer.objects.get()
    sent = DeliveryRecord.objects.create(
        message=email, customer=customer, version=email.version, status=Status.SENT, sent_at=at, matched_at=at
    )
    for number in (0, 1):
        link = Link.objects.create(version=email.version, number=number, address=f"https://acme.example/{number}")
        hits.count_hit(sent, link=link, who=VisitorKind.PERSON, at=at)

    assert hits.reclassify_scanner_clicks(sent, version_id=email.version.pk, at=at)

    customer.refresh_from_db()
    assert customer.last_clicked_email_at is None
