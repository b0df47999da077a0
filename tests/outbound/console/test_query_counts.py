"""Every page of the console needs the same number of queries with few rows and with many."""

import uuid
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from audiences.models import (
    Customer,
    Import,
    Integration,
    Notification,
    Subscription,
    Workspace,
)
from delivery.conversations import threads
from delivery.matching import direct, lifecycle, ongoing
from delivery.models import DeliveryRecord, Pace, Reason, Status
from messaging import authoring
from messaging.models import Message, Sender
from tests.factories import (
    AT,
    CompanyFactory,
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    TopicFactory,
    TopicOptOutFactory,
    rule,
)
from tests.support.imports import stored_import
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
FEW, MANY = 3, 25


@dataclass
class World:
    """One row of each kind that has a page, and any number of rows around them."""

    boss: User
    size: int = 0
    one: dict[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Create the rows that have pages."""
        ada = CustomerFactory(user_id="ada", name="Ada", email="ada@acme.example")
        sender = SenderFactory()
        self.one = {
            "customer": ada.pk,
            "company": CompanyFactory(company_id="acme", name="Acme").pk,
            "tag": CustomerTagFactory(customer=ada, tag__name="VIP").tag_id,
            "segment": SegmentFactory(name="Named A", rules={"match": "all", "rules": [rule("name", "is", "A")]}).pk,
            "sender": sender.pk,
            "draft": MessageFactory(title="Draft", sender=sender).pk,
            "ongoing": MessageFactory(title="Ongoing", live=True, sender=sender, topic=TopicFactory()).pk,
            "topic": TopicOptOutFactory(customer=ada).topic_id,
            "paused": MessageFactory(title="Paused", live=True, sender=sender).pk,
            "per_company": MessageFactory(
                title="Each", live=True, sender=sender, subject="{{ company.name }}", body="Hi {{ company.name }}"
            ).pk,
            "conversation": threads.open_by_customer(ada, body="Hello?", at=AT).pk,
            "attribute": CustomAttributeFactory(name="seats").pk,
            "hook": self.hook(0).pk,
            "group": Group.objects.get(name="Author").pk,
            "task": PeriodicTask.objects.first().pk,
            "pace": Pace.objects.create(channel="email").pk,
            "token": Integration.objects.create(user=self.boss, name="Shop")[0].pk,
        }
        lifecycle.pause(Message.objects.get(pk=self.one["paused"]))
        Workspace.current()
        lines = "email,name\n" + "".join(f"nobody{n},Eve\n" for n in range(MANY))
        job = stored_import(lines, at=AT, by=self.boss)
        self.one["import"] = job.pk

    def hook(self, number: int) -> Subscription:
        url = f"https://acme.example/{number}"
        return Subscription.objects.create(url=url, topics=["user.created"], created_at=AT, updated_at=AT)

    def grow(self, size: int) -> None:
        """Create this many rows of everything."""
        for n in range(self.size, size):
            self.add(n)
        at = AT + timedelta(hours=size)
        for name in ("ongoing", "per_company"):
            ongoing.match(Message.objects.get(pk=self.one[name]), at=at)
        waiting = DeliveryRecord.objects.filter(message_id=self.one["ongoing"], status="waiting").order_by("pk")
        pks = list(waiting.values_list("pk", flat=True))
        sent, uncertain = pks[::2], pks[1::2]
        DeliveryRecord.objects.filter(pk__in=pks).mark_sending(claim=uuid.uuid4(), until=at)
        mark_records_sent(DeliveryRecord.objects.filter(pk__in=sent), at=at)
        DeliveryRecord.objects.filter(pk__in=uncertain).mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
        Workspace.objects.update(allowed_origins=[f"https://{n}.acme.example" for n in range(size)])
        self.size = size

    def add(self, n: int) -> None:
        """Create one more row of everything, and one more child of the rows that have pages."""
        one, ada = self.one, Customer.objects.get(pk=self.one["customer"])
        company, sender = CompanyFactory(name=f"Company {n}"), Sender.objects.get(pk=self.one["sender"])
        bob = CustomerFactory(name=f"Bob {n}", email=f"bob{n}@acme.example")
        MembershipFactory(customer=ada, company=company)
        MembershipFactory(customer=bob, company_id=one["company"])
        CustomerTagFactory(customer=ada)
        CustomerTagFactory(customer=bob, tag_id=one["tag"], tag=None)
        CompanyTagFactory(company_id=one["company"], company=None)
        EventFactory(customer=ada, name=f"did {n}")
        EventSummaryFactory(customer=ada, name=f"did {n}")
        CustomAttributeFactory(name=f"attribute {n}")
        Customer.objects.filter(pk=ada.pk).update(attributes={f"attribute {k}": "x" for k in range(n + 1)})
        SegmentFactory(name=f"Segment {n}", rules={"match": "all", "rules": [rule("segment", "is", one["segment"])]})
        asks = [rule("tag", "is", one["tag"]), rule("segment", "is", one["segment"])]
        MessageFactory(title=f"Draft {n}", rules=asks, sender=SenderFactory(name=f"Sender {n}"))
        # Ada opted out of the topic, which her copy names, and Eve of that of the ongoing message.
        live = MessageFactory(
            title=f"Live {n}", live=True, one_off=True, sender=sender, in_app=bool(n % 2), topic_id=one["topic"]
        )
        DeliveryRecord.objects.create(
            message_id=one["ongoing"],
            customer=CustomerFactory(name=f"Eve {n}", email=f"eve{n}@acme.example"),
            status=Status.SKIPPED,
            reason=Reason.OPTED_OUT,
            matched_at=AT,
        )
        for message in (Message.objects.get(pk=one["ongoing"]), Message.objects.get(pk=one["paused"])):
            authoring.revise(
                message, subject=f"Hello {n}", body=f'<a href="https://x.example/{n}">x</a>', by=self.boss, at=AT
            )
        chat = {"channel": "in_app", "format": "chat", "sender": sender, "subject": ""}
        direct.send_to_one(ada, **chat, body=f"<p>Hi {n}</p>", by=self.boss, at=AT)
        threads.open_by_customer(ada, body=f"Mine {n}", at=AT)
        threads.open_by_customer(bob, body=f"Bob's {n}", at=AT)
        thread = threads.Conversation.objects.get(pk=one["conversation"])
        threads.reply_by_customer(thread, body=f"And {n}?", at=AT)
        user = User.objects.create_user(f"staff{n}", f"staff{n}@acme.example", is_staff=True)
        user.groups.add(one["group"])
        sender.users.add(user)
        Integration.objects.create(user=self.boss, name=f"Token {n}")
        self.hook(n + 1)
        told = {"topic": "user.created", "created_at": AT, "due_at": AT}
        Notification.objects.create(subscription_id=one["hook"], **told)
        stored_import("email\na@b.example\n", at=AT, by=self.boss)
        Import.objects.get(pk=one["import"]).problems.create(line=n + 2, column="email", reason="No address.")
        about = [ada, company, live, Message.objects.get(pk=one["ongoing"]), Workspace.current()]
        LogEntry.objects.log_actions(self.boss.pk, about, 2, change_message=f"Did {n}")
        PeriodicTask.objects.create(name=f"Task {n}", task="x", interval_id=PeriodicTask.objects.first().interval_id)

    def addresses(self) -> list[str]:
        """Return every list and one detail page of each kind."""
        one = self.one
        tables = [model._meta.label_lower.replace(".", "_") for model in admin.site._registry]
        pages = {
            "messaging_message_change": ("draft", "ongoing", "paused", "per_company"),
            "messaging_message_history": ("ongoing",),
            "message_edit_content": ("ongoing",),
            "message_edit_audience": ("paused",),
            "message_refresh": ("ongoing",),
            "message_left_out": ("ongoing",),
            "deliveryrecord_export": ("ongoing",),
            "audiences_customer_change": ("customer",),
            "audiences_customer_history": ("customer",),
            "customer_send_message": ("customer",),
            "customer_why": ("customer",),
            "customer_import_page": ("import",),
            "customer_import_errors": ("import",),
            "customer_import_lines": ("import",),
            "audiences_company_change": ("company",),
            "audiences_audience_change": ("segment",),
            "audiences_tag_change": ("tag",),
            "audiences_customattribute_change": ("attribute",),
            "messaging_sender_change": ("sender",),
            "delivery_conversation_change": ("conversation",),
            "audiences_subscription_change": ("hook",),
            "audiences_integration_change": ("token",),
            "delivery_pace_change": ("pace",),
            "auth_user_change": (),
            "auth_group_change": ("group",),
            "django_celery_beat_periodictask_change": ("task",),
        }
        alone = ("index", "deliveryrecord_uncertain", "customer_import_file", "messaging_message_add", "auth_user_add")
        alone += ("audiences_audience_add", "messaging_sender_add", "audiences_subscription_add", "conversation_news")
        record = DeliveryRecord.objects.filter(message_id=one["ongoing"]).order_by("pk").first()
        why = reverse("admin:customer_why", args=[one["customer"]])
        return [
            *(reverse(f"admin:{table}_changelist") for table in tables),
            *(reverse(f"admin:{name}") for name in alone),
            *(reverse(f"admin:{name}", args=[one[thing]]) for name, things in pages.items() for thing in things),
            reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]),
            reverse("admin:auth_user_change", args=[self.boss.pk]),
            reverse("admin:delivery_deliveryrecord_change", args=[record.pk]),
            f"{why}?message={one['ongoing']}",
            f"{why}?message={one['per_company']}",
            "/admin/messaging/message/?to=one_person",
            "/admin/messaging/message/?send_type__exact=ongoing&q=a",
            f"/admin/messaging/message/{one['ongoing']}/change/?status=sent",
            f"/admin/audiences/customer/?segment={one['segment']}",
            "/admin/audiences/customer/?q=bob",
        ]


def count_queries(console, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        answer = console.get(address, follow=True)
        assert answer.status_code == 200, address
        b"".join(answer.streaming_content) if answer.streaming else answer.content
    return len(queries)


def test_no_page_asks_more_often_the_more_there_is_on_it(console, boss):
    world = World(boss)
    world.begin()
    world.grow(FEW)
    # Caches are filled when a page is opened first.
    few = {address: [count_queries(console, address) for _ in range(2)][1] for address in world.addresses()}
    world.grow(MANY)

    grew = {}
    for address, before in few.items():
        if count_queries(console, address) > before and (now := count_queries(console, address)) > before:
            grew[address] = f"{before} -> {now}"
    assert grew == {}
