"""The history of the demo's messages adds up and is in the past."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import F

from config.demo import company, messages, staff
from delivery.models import DeliveryRecord, Hit, Status
from delivery.reporting import counters
from delivery.tracking import hits
from messaging.models import Channel, Message, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled(at, monkeypatch):
    monkeypatch.setattr(company, "CUSTOMERS", 1000)
    company.fill_company(at=at)
    messages.fill_messages(staff.ensure_team(), at=at)
    return at


def test_demo_has_weeks_of_history(filled):
    sent = DeliveryRecord.objects.filter(status=Status.SENT)
    welcome, reports = (Message.objects.get(title=title) for title in ("Welcome", "New: reports you can share"))

    assert len({record.sent_at.date() for record in sent.filter(message=welcome)}) > 14
    assert reports.state == State.SENT
    assert not sent.filter(sent_at__gt=filled).exists()
    assert not sent.filter(sent_at__lt=F("matched_at")).exists()
    assert not sent.filter(opened_at__lt=F("sent_at")).exists()
    assert not sent.filter(clicked_at__lt=F("opened_at")).exists()
    assert not Hit.objects.filter(last_at__gt=filled).exists()
    assert LogEntry.objects.filter(action_time__lt=filled - timedelta(days=10)).count() == 4


def test_reports_of_the_demo_add_up(filled):
    for message in Message.objects.filter(channel=Channel.EMAIL):
        found = counters.counts_of([message.pk])[message.pk]

        assert found.sent > found.opened > found.clicked > 0
        assert found.records == message.records.count()
        assert sum(link.people for link in hits.clicks_of(message)) == found.clicked
