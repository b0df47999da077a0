"""The page of senders' domains, and the launch that a domain refuses, warns about or is allowed."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from rest_framework.test import APIClient

from audiences.models import Integration
from delivery.maintenance import sweep
from delivery.matching import direct
from delivery.monitoring import domain_dns
from messaging import lifecycle
from messaging.models import Message, SendingDomain, State
from tests.factories import CustomerFactory, MessageFactory, SenderFactory
from tests.support.dns_server import DnsServer, serving_domain
from tests.support.pages import as_page

pytestmark = pytest.mark.django_db
DOMAIN, SELECTOR = "acme-mail.dev", "s1"
DMARC = (f"_dmarc.{DOMAIN}", "TXT")
PAGE = "/admin/messaging/sender/domains/"
NO_DMARC = f"{DOMAIN} publishes no DMARC record."


@pytest.fixture
def name_server(settings, monkeypatch) -> Iterator[DnsServer]:
    settings.API_RATE_LIMIT = 0
    monkeypatch.setattr(domain_dns, "LOOKUP_TIMEOUT", 0.3)
    monkeypatch.setattr(domain_dns, "TIME_LIMIT", 1.5)
    with serving_domain(DOMAIN, selector=SELECTOR, settings=settings) as server:
        yield server


@pytest.fixture
def draft(name_server) -> Message:
    CustomerFactory(email="ann@x.example")
    return MessageFactory(one_off=True, sender=SenderFactory(email=f"ada@{DOMAIN}"))


def read_page(console) -> str:
    return as_page(console.get(PAGE).content.decode())


def press(console, verb: str, **posted: str) -> str:
    return as_page(console.post(f"{PAGE}{DOMAIN}/{verb}/", posted, follow=True).content.decode())


def call(method: str, place: str):
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name=f'Deploy {Integration.objects.count()}')[1]}")
    return getattr(api, method)(f"/api/outbound/{place}")


def sheet_of(console, message: Message) -> str:
    """Return the text of the sheet that launches a scheduled message."""
    address = f"/admin/messaging/message/{message.pk}/act/live/"
    return as_page(console.post(address, {}, headers={"HX-Target": "sheet"}).content.decode())


def test_page_checks_a_domain_and_shows_what_to_publish(console, draft, name_server):
    SenderFactory(email="dee@acme.example")
    assert "Not checked yet." in read_page(console)
    assert "Not checked, because they are reserved for documentation and tests: acme.example." in read_page(console)

    wrong = console.post(f"{PAGE}{DOMAIN}/check/", {f"{DOMAIN}-dkim_selector": "s 1"})
    assert (wrong.status_code, "This is not a DKIM selector." in wrong.content.decode()) == (400, True)
    page = press(console, "check", **{f"{DOMAIN}-dkim_selector": SELECTOR})

    assert f"{DOMAIN} was checked." in page
    assert "DKIM OK The key at" in page
    assert LogEntry.objects.get().change_message == "DKIM selector, was “”"
    name_server.remove(*DMARC)
    page = press(console, "check", **{f"{DOMAIN}-dkim_selector": SELECTOR})
    assert f"DMARC Rejected by providers {NO_DMARC}" in page
    assert f"Publish this TXT record at _dmarc.{DOMAIN} : v=DMARC1; p=none; rua=mailto:dmarc@{DOMAIN}" in page
    assert console.post(f"{PAGE}else-mail.dev/check/").status_code == 404
    assert console.get(f"{PAGE}{DOMAIN}/check/").status_code == 303


def test_first_launch_checks_the_domain_and_refuses_until_an_admin_allows_it(console, draft, name_server):
    name_server.remove(*DMARC)

    refused = call("post", f"{draft.pk}/live")

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "sender")
    assert refused.json()["errors"][0]["message"].startswith(
        f"Large mailbox providers reject emails from {DOMAIN}: {NO_DMARC}"
    )
    (problem,) = call("get", f"{draft.pk}/review").json()["problems"]
    assert (problem["field"], NO_DMARC in problem["message"]) == ("sender", True)
    page = press(console, "allow")
    assert f"Emails from {DOMAIN} can go live." in page
    assert f"Allowed to send although providers reject it: {NO_DMARC}" in page
    assert LogEntry.objects.get().user.username == "boss"
    found = call("get", f"{draft.pk}/review").json()
    assert (found["problems"], NO_DMARC in " ".join(found["warnings"])) == ([], True)
    assert call("post", f"{draft.pk}/live").json()["state"] == "live"

    assert f"Emails from {DOMAIN} cannot go live." in press(console, "allow")
    again = MessageFactory(one_off=True, sender=draft.sender)
    assert call("post", f"{again.pk}/live").status_code == 400
    name_server.publish(*DMARC, '"v=DMARC1; p=none"')
    press(console, "check")
    assert f"Nothing was changed: providers do not reject {DOMAIN}." in press(console, "allow")
    assert call("post", f"{again.pk}/live").json()["state"] == "live"


def test_composer_and_sheet_check_the_domain_and_name_the_problem(console, draft, name_server):
    name_server.remove(*DMARC)
    form = {"act": "live", "title": "Sale", "channel": "email", "sender": str(draft.sender_id), "subject": "Sale"}
    form |= {"body": "<p>Hello</p>", "send_type": "one_off", "rules": '{"match": "all", "rules": []}', "window": "[]"}
    form |= {"window_zone": "workspace", "style": "plain", "checking": "hourly", "source": str(draft.pk)}

    shown = console.post("/admin/messaging/message/sheet/", {**form, "draft": str(draft.pk)})
    assert NO_DMARC in as_page(shown.content.decode())
    posted = console.post(f"/admin/messaging/message/{draft.pk}/change/", {**form, "reviewed": "1", "receiving": "1"})
    assert NO_DMARC in as_page(posted.content.decode())

    assert Message.objects.get().state == State.DRAFT


def test_only_emails_to_an_audience_are_refused(draft, name_server, boss):
    SendingDomain.objects.create(
        name=DOMAIN,
        checked_at=timezone.now(),
        findings=[{"check": "DMARC", "verdict": "rejected", "text": NO_DMARC, "publish": []}],
    )
    assert call("post", f"{draft.pk}/live").status_code == 400

    in_app = MessageFactory(one_off=True, in_app=True, sender=draft.sender)
    assert call("post", f"{in_app.pk}/live").json()["state"] == "live"
    customer = CustomerFactory(email="bob@x.example")
    written = {"channel": "email", "format": "", "subject": "Hi", "body": "<p>Hi</p>"}
    assert direct.send_to_one(customer, sender=draft.sender, by=boss, at=timezone.now(), **written).pk
    for name in ("acme.example", "mail.example.com", "outbound.test"):
        SendingDomain.objects.create(name=name, findings=SendingDomain.objects.get(pk=DOMAIN).findings)
        reserved = MessageFactory(one_off=True, sender=SenderFactory(email=f"ada@{name}"))
        assert call("post", f"{reserved.pk}/live").json()["state"] == "live"


def test_scheduled_email_stays_scheduled_if_its_domain_fails_by_then(console, draft, name_server):
    now = timezone.now()
    lifecycle.schedule(draft, for_=now + timedelta(hours=1), at=now)
    name_server.remove(*DMARC)
    assert NO_DMARC in sheet_of(console, draft)

    sweep.launch_scheduled(at=now + timedelta(hours=2))

    draft.refresh_from_db()
    assert (draft.state, NO_DMARC in draft.problem) == (State.SCHEDULED, True)


def test_domain_that_could_not_be_checked_warns_and_goes_live(draft, name_server):
    name_server.silent = {"*"}

    live = call("post", f"{draft.pk}/live")

    assert live.json()["state"] == "live"
    other = MessageFactory(one_off=True, sender=draft.sender)
    warnings = " ".join(call("get", f"{other.pk}/review").json()["warnings"])
    assert "The DNS did not answer, so this could not be checked: MX, SPF, DMARC" in warnings
