"""Delivery records: the list, its filters, and the read-only page."""

from html import unescape

import pytest

from delivery.models import DeliveryRecord, Reason, Status
from tests.factories import AT, CustomerFactory, MembershipFactory, MessageFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/delivery/deliveryrecord/"


def listed_records(answer) -> set[str]:
    return {record.customer.name for record in answer.context["cl"].result_list}


@pytest.fixture
def records() -> None:
    CustomerFactory(name="Ada", email="ada@acme.example")
    CustomerFactory(name="Bob", email="bob@acme.example", has_hard_bounced=True)
    CustomerFactory(name="Eve")
    MessageFactory(title="News", one_off=True, live=True)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Ada", "Bob", "Eve"}),
        ("status__exact=skipped", {"Bob", "Eve"}),
        ("reason__exact=bounced", {"Bob"}),
        ("message__channel__exact=email", {"Ada", "Bob", "Eve"}),
        ("message__channel__exact=push", set()),
        ("q=ada@", {"Ada"}),
        ("customer__id__exact={customer}", {"Ada"}),
        ("message__id__exact={message}", {"Ada", "Bob", "Eve"}),
    ],
)
@pytest.mark.usefixtures("records")
def test_list_applies_filters_and_search(console, query, names):
    ada = DeliveryRecord.objects.get(customer__name="Ada")

    assert (
        listed_records(console.get(f"{LIST}?{query.format(customer=ada.customer_id, message=ada.message_id)}")) == names
    )


@pytest.mark.usefixtures("records")
def test_the_reason_is_shown_as_text(console):
    page = console.get(LIST).content.decode()

    assert "Their email bounced" in page
    assert "Has no email address" in page


def test_a_record_shows_how_it_read_and_when(console):
    customer = CustomerFactory(name="Ada")
    message = MessageFactory(in_app=True, one_off=True, live=True, body="<p>Hi {{ first_name }}</p>")
    message.records.update(
        status=Status.SENT,
        sent_at=AT,
        opened_at=AT,
        reason="",
        version=message.version,
        variables={"first_name": "Ada"},
    )

    page = console.get(f"{LIST}{message.records.get().pk}/change/").content.decode()

    assert "Hi Ada" in page
    assert "Opened" in page
    assert "4 May 2026, 10:00:00" in page
    assert f"/admin/audiences/customer/{customer.pk}/change/" in page


def test_script_in_a_copy_cannot_run_in_the_console(console):
    CustomerFactory(name="Ada")
    message = MessageFactory(in_app=True, one_off=True, live=True, body="<p>{{ first_name }}</p>")
    evil = '"><script>alert(1)</script>'
    message.records.update(
        status=Status.SENT, sent_at=AT, reason="", version=message.version, variables={"first_name": evil}
    )

    page = console.get(f"{LIST}{message.records.get().pk}/change/").content.decode()

    assert "<script>alert(1)" not in page
    assert "<iframe" in page
    assert "sandbox" in page


def test_a_record_not_sent_yet_has_nothing_to_read(console):
    CustomerFactory()
    message = MessageFactory(in_app=True, one_off=True, live=True)

    page = unescape(console.get(f"{LIST}{message.records.get().pk}/change/").content.decode())

    assert "Nothing has been sent yet" in page
    assert Reason.VISIT.label in page


@pytest.mark.usefixtures("records")
def test_nothing_about_a_record_can_be_changed(console):
    record = DeliveryRecord.objects.first()

    assert console.get(f"{LIST}add/").status_code == 403
    assert console.get(f"{LIST}{record.pk}/delete/").status_code == 403
    console.post(f"{LIST}{record.pk}/change/", {"status": "sent"})
    assert DeliveryRecord.objects.get(pk=record.pk).status == record.status
    assert console.get(f"{LIST}424242/change/").status_code == 404


def test_queries_do_not_grow_with_the_rows(console, django_assert_max_num_queries):
    MembershipFactory.create_batch(3)
    MessageFactory(in_app=True, one_off=True, live=True, body="<p>{{ company.name }}</p>")
    console.get(LIST)
    with django_assert_max_num_queries(100) as few:
        console.get(LIST)
    MembershipFactory.create_batch(12)
    MessageFactory(in_app=True, one_off=True, live=True, body="<p>{{ company.name }}</p>")

    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(LIST)
