"""The details of a customer beside their conversation."""

from datetime import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audiences.models import Customer
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message
from outbound.people.beside import ROWS_SHOWN_MAX
from tests.factories import (
    AT,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventFactory,
    MembershipFactory,
    MessageFactory,
)

pytestmark = pytest.mark.django_db


def received(customer: Customer, message: Message, *, sent_at: datetime | None) -> None:
    """Make a record, sent at this moment or waiting."""
    status = Status.SENT if sent_at else Status.WAITING
    reason = "" if sent_at else Reason.QUEUED
    DeliveryRecord.objects.create(
        message=message, customer=customer, status=status, reason=reason, matched_at=AT, due_at=AT, sent_at=sent_at
    )


def test_details_show_facts_attributes_companies_tags_events_and_received_messages(console):
    CustomAttributeFactory(name="plan", kind="text")
    ada = CustomerFactory(name="Ada", country="Ireland", attributes={"plan": "pro <b>"})
    MembershipFactory(customer=ada, company__name="Byron Ltd")
    CustomerTagFactory(customer=ada, tag__name="VIP")
    EventFactory(customer=ada, name="invited a teammate")
    received(ada, MessageFactory(title="Welcome"), sent_at=AT)
    received(ada, MessageFactory(title="Not sent yet"), sent_at=None)

    page = console.get(reverse("admin:customer_beside", args=[ada.pk])).content.decode()

    for text in ("Ireland", "pro &lt;b&gt;", "Byron Ltd", "VIP", "invited a teammate", "Welcome", "Open the profile"):
        assert text in page
    assert "Not sent yet" not in page


def test_details_of_a_busy_customer_are_limited_and_need_no_more_queries(console):
    ada = CustomerFactory()
    address = reverse("admin:customer_beside", args=[ada.pk])

    def add() -> None:
        EventFactory(customer=ada, name=f"event {ada.events.count()}")
        MembershipFactory(customer=ada)
        received(ada, MessageFactory(), sent_at=AT)

    add()
    console.get(address)
    with CaptureQueriesContext(connection) as few:
        console.get(address)
    for _ in range(ROWS_SHOWN_MAX + 3):
        add()
    with CaptureQueriesContext(connection) as many:
        answer = console.get(address)

    assert len(many) == len(few)
    shown = [len(answer.context[name]) for name in ("companies", "received", "events")]
    assert shown == [ROWS_SHOWN_MAX] * 3
