"""Opens, clicks and unsubscribes of a copy: by people and machines, repeated and out of order."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import time_machine
from django.db import connection
from django.test import Client

from audiences.models import Customer, Workspace
from delivery import tokens
from delivery.channels import CHANNELS
from delivery.customers import erase
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Hit, Link, VisitorKind
from delivery.reporting import counters
from delivery.sending import dispatcher
from delivery.tracking import hits
from messaging import authoring
from messaging.models import Channel, Message
from tests.delivery.tracking.test_bots import CHROME
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory, rule
from tests.support.concurrency import elsewhere

pytestmark = pytest.mark.django_db

BODY = (
    '<p><a href="https://acme.example/new?u={{ user_id }}&amp;b=1">New</a> <a href="https://acme.example/old">Old</a>'
    ' <a href="mailto:a@acme.example">Write</a> <a href="{{ custom_attributes.site }}">Yours</a>'
    ' <a href="{{ unsubscribe_url }}">No more</a></p>'
)
SCANNER = "Barracuda Sentinel (EE)"
MINUTE = timedelta(minutes=1)
GIF = b"GIF89a"


class Caught:
    """A channel that collects its envelopes."""

    def __init__(self) -> None:
        self.given = []

    def send(self, envelope) -> str:
        self.given.append(envelope)
        return "taken"

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def channel(monkeypatch) -> Caught:
    channel = Caught()
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, lambda: channel)
    return channel


class Mail:
    """One sent email, and requests by a person, a scanner or a mail program at given times after sending."""

    def __init__(self, message: Message, html: str, at) -> None:
        self.message, self.html, self.at = message, html, at
        self.links = [urlsplit(link).path for link in re.findall(r'href="([^"]*/m/c/[^"]*)"', html)]
        self.pixel = urlsplit(re.search(r'<img src="([^"]*/m/o/[^"]*)"', html)[1]).path

    def get(self, path: str, *, after: timedelta = MINUTE, agent: str = CHROME, method: str = "get", **headers: str):
        with time_machine.travel(self.at + after, tick=False):
            return getattr(Client(), method)(path, headers={"user-agent": agent, **headers})

    @property
    def record(self) -> DeliveryRecord:
        return self.message.records.select_related("customer").get()

    @property
    def moments(self) -> tuple:
        """The times of open and click, relative to sending."""
        record = self.record
        return tuple(moment and moment - self.at for moment in (record.opened_at, record.clicked_at))


@pytest.fixture
def mail(at, channel) -> Mail:
    CustomerFactory(user_id="ann", email="ann@x.example", attributes={"site": "https://ann.example/"})
    return sent(channel, at)


def sent(channel, at, body: str = BODY) -> Mail:
    CustomAttributeFactory(name="site")
    message = MessageFactory(live=True, at=at, body=body, rules=[rule("email", "has_any_value")])
    ongoing.match(message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    return Mail(message, channel.given[-1].html, at)


def numbers(mail: Mail) -> dict[tuple[str, int | None], int]:
    return {(hit.who, hit.link and hit.link.number): hit.number for hit in mail.record.hits.select_related("link")}


# Content of an email


def test_only_web_links_are_rewritten(mail):
    assert len(mail.links) == 2
    assert list(Link.objects.order_by("number").values_list("number", "address")) == [
        (0, "https://acme.example/new?u={{ user_id }}&b=1"),
        (1, "https://acme.example/old"),
    ]
    assert 'href="mailto:a@acme.example"' in mail.html
    assert "https://ann.example/" in re.findall(r'href="([^"]*)"', mail.html)
    assert "/m/unsubscribe/" in mail.html


def test_text_part_keeps_the_original_urls(mail, channel):
    text = channel.given[-1].text

    assert "New (https://acme.example/new?u=ann&b=1)" in text
    assert "/m/c/" not in text


@pytest.mark.django_db(transaction=True)
def test_links_are_stored_before_the_first_copy_is_sent(at, channel):
    CustomerFactory(email="ann@x.example")
    seen = []

    def send(envelope) -> str:
        seen.append(elsewhere(Link.objects.count))
        channel.given.append(envelope)
        return "taken"

    channel.send = send

    sent(channel, at)

    assert seen == [2]


def test_links_are_stored_once_per_version(mail, channel, at, django_user_model):
    CustomerFactory(email="bob@x.example")
    body = BODY.replace("acme.example/old", "acme.example/newer")
    ongoing.match(mail.message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))
    assert Link.objects.count() == 2

    authoring.revise(mail.message, subject="Again", body=body, by=None, at=at)
    CustomerFactory(email="cyd@x.example")
    ongoing.match(mail.message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))

    assert [(link.version.number, link.number) for link in Link.objects.order_by("pk")] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    first, last = (Mail(mail.message, given.html, at) for given in (channel.given[0], channel.given[-1]))
    assert mail.get(first.links[1]).url == "https://acme.example/old"
    assert mail.get(last.links[1]).url == "https://acme.example/newer"


def test_without_tracking_emails_are_unchanged_and_old_links_still_redirect(mail, channel, at):
    Workspace.objects.update(track_emails=False)
    CustomerFactory(email="bob@x.example")
    ongoing.match(mail.message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))

    html = channel.given[-1].html

    assert channel.given[-1].to == ("bob@x.example",)
    assert "/m/c/" not in html
    assert "/m/o/" not in html
    assert 'href="https://acme.example/old"' in html
    assert mail.get(mail.links[1]).url == "https://acme.example/old"


def test_preview_by_staff_is_not_counted(mail):
    from delivery import rendering

    shown = rendering.render_sent_copy(DeliveryRecord.objects.select_related("version", "message").get()).html

    assert "/m/c/" not in shown
    assert "/m/o/" not in shown


# Opens


def test_pixel_records_the_first_open_and_counts_later_ones(mail):
    for minutes in (3, 5, 9):
        answer = mail.get(mail.pixel, after=minutes * MINUTE)
        assert (answer.status_code, answer["Content-Type"], answer.content[:6]) == (200, "image/gif", GIF)
        assert "no-store" in answer["Cache-Control"]

    assert mail.moments == (3 * MINUTE, None)
    assert numbers(mail) == {(VisitorKind.PERSON, None): 3}
    assert mail.record.customer.last_opened_email_at == mail.at + 9 * MINUTE
    assert counters.counts_of([mail.message.pk])[mail.message.pk].opened == 1


@pytest.mark.parametrize("token", ["x", "AAAA", "%00", "é", "A" * 32, "A" * 43, "A" * 5000, "1:signature"])
def test_pixel_is_returned_for_any_token(mail, token):
    answer = mail.get(f"/m/o/{token}.gif")

    assert (answer.status_code, answer.content[:6]) == (200, GIF)
    assert not Hit.objects.exists()


def test_pixel_is_returned_for_a_missing_record(mail):
    assert mail.get(f"/m/o/{tokens.make_token(2**40, 1, purpose='tracking')}.gif").status_code == 200
    assert not Hit.objects.exists()


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        ({"agent": SCANNER}, VisitorKind.MACHINE),
        ({"agent": CHROME, "sec-purpose": "prefetch"}, VisitorKind.MACHINE),
        ({"agent": CHROME, "method": "head"}, VisitorKind.MACHINE),
        ({"agent": "Mozilla/5.0"}, VisitorKind.PRIVACY),
    ],
)
def test_open_by_a_machine_is_counted_separately(mail, asked, who):
    assert mail.get(mail.pixel, **asked).status_code == 200

    assert mail.moments == (None, None)
    assert mail.record.customer.last_opened_email_at is None
    assert hits.opens_of(mail.message) == {each: int(each is who) for each in VisitorKind}
    assert mail.get(mail.pixel, after=2 * MINUTE)
    assert mail.moments == (2 * MINUTE, None)


# Clicks


def test_link_redirects_and_implies_an_open(mail):
    answer = mail.get(mail.links[0])

    assert (answer.status_code, answer.url) == (302, "https://acme.example/new?u=ann&b=1")
    assert answer["Referrer-Policy"] == "no-referrer"
    assert mail.moments == (MINUTE, MINUTE)
    assert mail.record.customer.last_clicked_email_at == mail.at + MINUTE


def test_open_before_a_click_stays_the_first(mail):
    mail.get(mail.links[0], after=5 * MINUTE)
    mail.get(mail.pixel, after=2 * MINUTE)  # Recorded late.

    assert mail.moments == (5 * MINUTE, 5 * MINUTE)
    mail.get(mail.links[1], after=8 * MINUTE)
    assert mail.moments == (5 * MINUTE, 5 * MINUTE)
    assert mail.record.customer.last_opened_email_at == mail.at + 8 * MINUTE


def test_clicks_are_counted_by_link(mail):
    for _ in range(3):
        mail.get(mail.links[1])
    mail.get(mail.links[0])
    mail.get(mail.links[0], agent=SCANNER)

    found = {(one.address, one.people, one.clicks, one.machines) for one in hits.clicks_of(mail.message)}

    assert found == {
        ("https://acme.example/old", 1, 3, 0),
        ("https://acme.example/new?u={{ user_id }}&b=1", 1, 1, 1),
    }
    assert counters.counts_of([mail.message.pk])[mail.message.pk].clicked == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"agent": SCANNER},
        {"agent": "Mozilla/5.0"},
        {"agent": ""},
        {"method": "head"},
        {"purpose": "prefetch"},
        {"after": timedelta(seconds=1)},
    ],
)
def test_machine_is_redirected_and_counted_separately(mail, asked):
    assert mail.get(mail.links[0], **asked).url.startswith("https://acme.example/new")

    assert mail.moments == (None, None)
    assert numbers(mail) == {(VisitorKind.MACHINE, 0): 1}


def test_client_that_follows_every_link_at_once_is_a_scanner(mail):
    mail.get(mail.pixel, after=timedelta(seconds=4))
    mail.get(mail.links[0], after=timedelta(seconds=5))
    assert mail.moments == (timedelta(seconds=4), timedelta(seconds=5))

    mail.get(mail.links[1], after=timedelta(seconds=6))

    # The pixel was loaded like a person's, and nothing proves the opposite.
    assert mail.moments == (timedelta(seconds=4), None)
    assert numbers(mail) == {(VisitorKind.PERSON, None): 1, (VisitorKind.MACHINE, 0): 1, (VisitorKind.MACHINE, 1): 1}
    assert mail.record.customer.last_clicked_email_at is None
    assert counters.counts_of([mail.message.pk])[mail.message.pk].clicked == 0


def test_person_after_a_scanner_is_a_person(mail):
    for link in mail.links:
        mail.get(link, after=timedelta(seconds=5))

    mail.get(mail.links[0], after=10 * MINUTE)

    assert mail.moments == (10 * MINUTE, 10 * MINUTE)


def test_person_may_follow_every_link_slowly(mail):
    for link in mail.links:
        mail.get(link, after=timedelta(seconds=5))
        mail.get(link, after=2 * MINUTE)
    DeliveryRecord.objects.update(opened_at=None, clicked_at=None)
    Hit.objects.all().delete()

    for minutes, link in enumerate(mail.links, start=1):
        mail.get(link, after=minutes * MINUTE)

    assert mail.moments == (MINUTE, MINUTE)


def test_single_link_may_be_followed_within_seconds(at, channel):
    CustomerFactory(email="ann@x.example")
    mail = sent(channel, at, '<p><a href="https://acme.example/confirm">Confirm</a></p>')

    mail.get(mail.links[0], after=timedelta(seconds=6))

    assert mail.moments == (timedelta(seconds=6), timedelta(seconds=6))


@pytest.mark.django_db(transaction=True)
def test_click_before_settling_counts_after_sending(at, channel):
    CustomerFactory(email="ann@x.example")
    clicked = []

    def send(envelope) -> str:
        link = re.search(r'href="([^"]*/m/c/[^"]*)"', envelope.html)[1]
        answer = elsewhere(lambda: Client().get(urlsplit(link).path, headers={"user-agent": CHROME}))
        clicked.append(answer.status_code)
        channel.given.append(envelope)
        return "taken"

    channel.send = send
    with time_machine.travel(at, tick=False):
        mail = sent(channel, at, '<p><a href="https://acme.example/">Go</a></p>')

    assert clicked == [302]
    assert counters.counts_of([mail.message.pk])[mail.message.pk].clicked == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_hits_are_counted_exactly_without_deadlock(mail):
    def ask(number: int) -> int:
        path = (mail.pixel, *mail.links)[number % 3]
        try:
            return Client().get(path, headers={"user-agent": CHROME}).status_code
        finally:
            connection.close()

    with time_machine.travel(mail.at + MINUTE, tick=False), ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(ask, range(30))) == [200] * 10 + [302] * 20

    assert numbers(mail) == {(VisitorKind.PERSON, None): 10, (VisitorKind.PERSON, 0): 10, (VisitorKind.PERSON, 1): 10}
    assert mail.moments == (MINUTE, MINUTE)


# Invalid links


def paths_to_nowhere(mail: Mail) -> list[str]:
    base, _, number = mail.links[0].rpartition("/")
    token = base.rpartition("/")[2]
    other = MessageFactory(body='<p><a href="https://other.example/">o</a></p>').version
    Link.objects.create(version=other, number=0, address="https://other.example/")
    return [
        f"{base}/2",
        f"{base}/9999",
        f"{base}/99999",
        f"{base}/-1",
        f"{base}/0/https://evil.example",
        f"{base}/https://evil.example",
        f"/m/c/{'A' if token[0] != 'A' else 'B'}{token[1:]}/{number}",
        f"/m/c/{tokens.make_token(mail.record.pk, purpose='unsubscribe')}/0",
        f"/m/c/{tokens.make_token(mail.record.pk, other.pk, purpose='tracking')}/0",
        "/m/c//0",
        "/m/c/x/0",
        "/m/c/x/0?url=https://evil.example",
    ]


def test_invalid_links_never_redirect(mail):
    for path in paths_to_nowhere(mail):
        assert mail.get(path).status_code == 404, path
    assert not Hit.objects.exists()


def test_customer_data_cannot_change_the_target_of_a_link(mail):
    DeliveryRecord.objects.update(variables={"user_id": "\r\nSet-Cookie: a=b\r\n\r\n//evil.example/@evil.example"})

    answer = mail.get(mail.links[0])

    assert urlsplit(answer.url).netloc == "acme.example"
    assert "\n" not in answer.url
    assert not answer.cookies


def test_query_beside_a_link_changes_nothing(mail):
    answer = mail.get(mail.links[1] + "?next=https://evil.example&url=//evil.example")

    assert answer.url == "https://acme.example/old"


def test_links_of_an_erased_customer_redirect_without_personal_data(mail, at):
    erase.erase(mail.record.customer, at=at)

    assert mail.get(mail.links[0]).url == "https://acme.example/new?u=&b=1"


# Rules


@pytest.mark.parametrize(
    ("did", "rules"),
    [
        (lambda mail: mail.get(mail.pixel), {"opened_message"}),
        (lambda mail: mail.get(mail.links[0]), {"opened_message", "clicked_message"}),
        (lambda mail: mail.get(mail.links[0], agent=SCANNER), set()),
    ],
)
def test_rules_match_opens_and_clicks(mail, at, did, rules):
    did(mail)

    for attribute in ("opened_message", "clicked_message"):
        later = MessageFactory(live=True, at=at, rules=[rule(attribute, "is", mail.message.pk)])
        ongoing.match(later, at=at + timedelta(hours=1))
        assert later.records.exists() == (attribute in rules), attribute


# Unsubscribes


def unsubscribe_path(mail: Mail) -> str:
    return urlsplit(re.search(r'href="([^"]*/m/unsubscribe/[^"]*)"', mail.html)[1]).path


def test_one_click_unsubscribe_is_idempotent(mail, channel):
    headers = channel.given[-1].headers
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    path = urlsplit(headers["List-Unsubscribe"].strip("<>")).path
    assert path == unsubscribe_path(mail)

    for minutes in (1, 5):
        with time_machine.travel(mail.at + minutes * MINUTE, tick=False):
            # As in RFC 8058: a form without cookie and referrer; a scanner's user agent makes no difference.
            answer = Client(enforce_csrf_checks=True).post(path, {"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200

    customer = mail.record.customer
    assert customer.unsubscribed_from_emails
    assert customer.unsubscribed_by_customer_at == mail.record.unsubscribed_at == mail.at + MINUTE
    assert counters.counts_of([mail.message.pk])[mail.message.pk].unsubscribed == 1


@pytest.mark.parametrize("method", ["get", "head"])
def test_viewing_the_unsubscribe_page_changes_nothing(mail, method):
    assert mail.get(unsubscribe_path(mail), method=method).status_code == 200

    assert mail.record.unsubscribed_at is None
    assert not mail.record.customer.unsubscribed_from_emails


def test_subscribing_again_keeps_the_unsubscribe_in_the_report(mail):
    path = unsubscribe_path(mail)
    assert b'name="again"' in Client().post(path).content

    answer = Client().post(path, {"again": "yes"})

    assert b"subscribed again" in answer.content
    customer = mail.record.customer
    assert (customer.unsubscribed_from_emails, customer.unsubscribed_by_customer_at) == (False, None)
    assert mail.record.unsubscribed_at is not None
    Client().post(path)
    assert Customer.objects.get().unsubscribed_from_emails


def test_unsubscribe_page_masks_the_address(mail):
    page = mail.get(unsubscribe_path(mail)).content.decode()

    assert "ann@x.example" not in page
    assert "an…@x.example" in page


def test_tracking_link_does_not_unsubscribe(mail):
    token = mail.links[0].split("/")[3]

    assert Client().post(f"/m/unsubscribe/{token}").status_code == 404
    assert Client().post(mail.links[0]).status_code == 405


def test_link_works_years_later_and_after_the_key_was_changed(mail, settings):
    path = unsubscribe_path(mail)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]

    with time_machine.travel(mail.at + timedelta(days=3650)):
        assert Client().post(path).status_code == 200
        assert mail.get(mail.links[1], after=timedelta(days=3650)).url == "https://acme.example/old"

    assert mail.record.customer.unsubscribed_from_emails


@pytest.mark.parametrize("token", ["12:forged", "A" * 32, "", "%00"])
def test_invalid_unsubscribe_link_is_not_found(token):
    assert Client().post(f"/m/unsubscribe/{token}").status_code == 404


def test_unsubscribe_page_forbids_scripts_and_frames(mail):
    policy = mail.get(unsubscribe_path(mail))["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
