"""Uncertain records: shown with their evidence, settled one by one or together, and logged."""

import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from delivery import rendering
from delivery.matching import lifecycle
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message
from outbound.messages import uncertain
from tests.factories import AT, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
PAGE = "/admin/delivery/deliveryrecord/uncertain/"
SENT = "/admin/delivery/deliveryrecord/settle/sent/"
AGAIN = "/admin/delivery/deliveryrecord/settle/again/"


def doubt(message: Message, *names: str) -> list[int]:
    """Make copies uncertain through the allowed transitions."""
    rows = message.records.filter(customer__name__in=names)
    pks = list(rows.order_by("pk").values_list("pk", flat=True))
    rows = DeliveryRecord.objects.filter(pk__in=pks)
    rows.mark_sending(claim=uuid.uuid4(), until=AT)
    rows.update(taken_at=AT)
    rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
    return pks


@pytest.fixture
def news() -> Message:
    for name in ("Ada", "Bob", "Eve"):
        CustomerFactory(name=name, email=f"{name.lower()}@acme.example")
    return MessageFactory(title="News", one_off=True, live=True)


def statuses(message: Message) -> dict[str, str]:
    return dict(message.records.values_list("customer__name", "status"))


def test_page_shows_the_ids_for_a_search_in_the_providers_log(console, news):
    (pk,) = doubt(news, "Ada")

    shown = console.get(PAGE).content.decode()

    assert "ada@acme.example" in shown
    assert rendering.message_id(pk).strip("<>") in shown
    assert timezone.localtime(AT).strftime("%-d %b %Y, %H:%M:%S") in shown
    assert "eve@acme.example" not in shown


def test_marking_as_sent_uses_the_time_of_the_claim_and_is_logged(console, boss, news):
    (pk, _) = doubt(news, "Ada", "Bob")

    answer = console.post(SENT, {"record": [pk], "next": PAGE}, follow=True)

    assert statuses(news) == {"Ada": "sent", "Bob": "uncertain", "Eve": "waiting"}
    assert DeliveryRecord.objects.get(pk=pk).sent_at == AT
    assert "1 copy is marked as sent." in answer.content.decode()
    logged = {(entry.content_type.model, entry.object_id): entry for entry in LogEntry.objects.filter(user=boss)}
    assert logged["deliveryrecord", str(pk)].change_message == "Marked as sent manually: from Uncertain to Sent"
    assert logged["message", str(news.pk)].change_message == "Marked as sent manually: 1 uncertain copy"


def test_sending_many_again_nudges_a_worker(console, news, nudged, django_capture_on_commit_callbacks):
    pks = doubt(news, "Ada", "Bob")

    with django_capture_on_commit_callbacks(execute=True):
        console.post(AGAIN, {"record": pks})

    assert statuses(news) == {"Ada": "waiting", "Bob": "waiting", "Eve": "waiting"}
    assert "hand over" in nudged
    assert DeliveryRecord.objects.due(timezone.now()).count() == 3
    assert LogEntry.objects.filter(content_type__model="deliveryrecord").count() == 2


def test_all_of_a_message_are_settled_and_no_other_messages(console, news):
    other = MessageFactory(title="Other", one_off=True, live=True)
    doubt(news, "Ada", "Bob", "Eve")
    doubt(other, "Ada")

    console.post(SENT, {"all": "1", "message": news.pk})

    assert set(statuses(news).values()) == {"sent"}
    assert statuses(other)["Ada"] == "uncertain"


def test_records_settled_meanwhile_are_reported(console, news):
    (pk,) = doubt(news, "Ada")
    console.post(SENT, {"record": [pk]})
    before = LogEntry.objects.count()

    answer = console.post(AGAIN, {"record": [pk]}, follow=True)

    assert statuses(news)["Ada"] == "sent"
    assert "1 could not be changed" in answer.content.decode()
    assert LogEntry.objects.count() == before


def test_a_record_that_is_not_uncertain_is_touched_by_neither(console, news):
    pk = news.records.get(customer__name="Eve").pk

    console.post(SENT, {"record": [pk]})
    console.post(AGAIN, {"record": [pk]})

    assert statuses(news)["Eve"] == "waiting"


def test_of_a_message_that_has_ended_nothing_goes_again(console, news):
    (pk,) = doubt(news, "Ada")
    lifecycle.stop(news)

    answer = console.post(AGAIN, {"record": [pk]}, follow=True)

    assert statuses(news)["Ada"] == "uncertain"
    assert "or the message has ended" in answer.content.decode()
    console.post(SENT, {"record": [pk]})
    assert statuses(news)["Ada"] == "sent"


@pytest.mark.parametrize("posted", [{}, {"record": ["x"]}, {"record": [""]}, {"record": ["9" * 40]}])
def test_empty_selection_is_refused(console, news, posted):
    doubt(news, "Ada")

    answer = console.post(SENT, posted, follow=True)

    assert "Select at least one." in answer.content.decode()
    assert statuses(news)["Ada"] == "uncertain"


@pytest.mark.parametrize("query", ["message=0", "message=x", "message=" + "9" * 30])
def test_unknown_message_is_not_found(console, query):
    assert console.get(f"{PAGE}?{query}").status_code == 404
    assert console.post(SENT, {"all": "1", "message": query.removeprefix("message=")}).status_code == 404


def test_leads_back_nowhere_but_here(console, news):
    (pk,) = doubt(news, "Ada")

    assert console.post(SENT, {"record": [pk], "next": "https://evil.example/"}).url == PAGE
    assert console.post(SENT, {"record": [pk], "next": f"{PAGE}?message={news.pk}"}).url == f"{PAGE}?message={news.pk}"


def test_viewer_has_no_buttons_and_is_refused(log_in_with, news):
    (pk,) = doubt(news, "Ada")
    viewer = log_in_with("delivery.view_deliveryrecord", "audiences.view_customer", "messaging.view_message")

    shown = viewer.get(PAGE).content.decode()
    assert "ada@acme.example" in shown
    assert "settle/" not in shown
    assert viewer.post(SENT, {"record": [pk]}).status_code == 403
    assert viewer.get(SENT).status_code == 303
    assert statuses(news)["Ada"] == "uncertain"


def test_pages_are_turned_and_cost_the_same_whatever_is_on_them(
    console, news, monkeypatch, django_assert_max_num_queries
):
    monkeypatch.setattr(uncertain, "PAGE_SIZE", 2)
    doubt(news, "Ada", "Bob", "Eve")
    first = console.get(PAGE)
    second = console.get(f"{PAGE}?after={first.context['older']}")

    names = [[record.customer.name for record, _ in page.context["rows"]] for page in (first, second)]
    assert names == [["Ada", "Bob"], ["Eve"]]
    assert second.context["older"] is None
    monkeypatch.setattr(uncertain, "PAGE_SIZE", 50)
    with django_assert_max_num_queries(12):
        console.get(PAGE)


def test_the_report_the_record_and_home_lead_to_it(console, news):
    (pk,) = doubt(news, "Ada")

    report = console.get(reverse("admin:messaging_message_change", args=[news.pk])).content.decode()
    record = console.get(reverse("admin:delivery_deliveryrecord_change", args=[pk])).content.decode()
    home = console.get("/admin/").content.decode()

    assert f"{PAGE}?message={news.pk}" in report
    assert f"{PAGE}?message={news.pk}" in home
    assert SENT in record
    assert AGAIN in record
    assert (
        "settle/"
        not in console.get(
            reverse("admin:delivery_deliveryrecord_change", args=[news.records.get(customer__name="Bob").pk])
        ).content.decode()
    )


def test_every_verdict_is_one_the_records_may_take(console):
    assert {verdict.became for verdict in uncertain.VERDICTS.values()} == {Status.SENT, Status.WAITING}
    assert set(uncertain.MANY) == set(uncertain.VERDICTS)
