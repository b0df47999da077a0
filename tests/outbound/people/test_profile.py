"""The profile of a customer, and messages sent from it."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from audiences.models import Customer, Device
from delivery.models import Conversation, ConversationPart, DeliveryRecord, Reason, Status
from messaging.models import Message, State
from tests.factories import (
    AT,
    CompanyFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    rule,
)

pytestmark = pytest.mark.django_db


def profile(customer: Customer) -> str:
    return reverse("admin:audiences_customer_change", args=[customer.pk])


def composer(customer: Customer) -> str:
    return reverse("admin:customer_send_message", args=[customer.pk])


def ticket(console, customer: Customer) -> str:
    return re.search(r'name="ticket" value="([^"]+)"', console.get(composer(customer)).content.decode())[1]


@pytest.fixture
def send(console, nudged, django_capture_on_commit_callbacks):
    """Return a function that submits the form for a message to one customer."""

    def post(customer: Customer, **typed: object):
        form = {
            "ticket": ticket(console, customer),
            "way": "chat",
            "sender": SenderFactory().pk,
            "subject": "",
            "body": "<p>Hi {{ first_name | default: 'there' }}</p>",
            **typed,
        }
        with django_capture_on_commit_callbacks(execute=True):
            return console.post(composer(customer), form, follow=True)

    return post


def test_profile_shows_attributes(console):
    CustomAttributeFactory(name="trial_ends_at", kind="date")
    customer = CustomerFactory(
        name="Ada Byron",
        email="ada@acme.example",
        country="Ireland",
        last_seen_at=AT,
        attributes={"trial_ends_at": 1777888800, "admin": True},
        details={"utm_source": "spring"},
    )
    MembershipFactory(customer=customer, company=CompanyFactory(name="Acme"))
    CustomerTagFactory(customer=customer, tag__name="VIP")
    EventSummaryFactory(customer=customer, name="created-project", count=3)

    page = console.get(profile(customer)).content.decode()

    for fact in ("Ada Byron", "ada@acme.example", "Ireland", "Acme", "VIP", "created-project", "spring", "Yes"):
        assert fact in page, fact
    assert "4 May 2026, 10:00" in page


def test_customer_values_are_escaped(console):
    evil = "<script>alert(1)</script>"
    customer = CustomerFactory(name=evil, attributes={evil: evil}, country=evil)
    conversation = Conversation.objects.create(customer=customer, body=evil, created_at=AT, updated_at=AT)
    ConversationPart.objects.create(conversation=conversation, body=f"well {evil}", by_customer=True, created_at=AT)

    for address in (profile(customer), composer(customer), "/admin/audiences/customer/"):
        assert evil not in console.get(address).content.decode()


def test_profile_shows_rendered_messages(console):
    customer = CustomerFactory(name="Ada Byron")
    message = MessageFactory(in_app=True, one_off=True, live=True, body="<p>Hi {{ first_name }}</p>")
    message.records.update(
        status=Status.SENT, sent_at=AT, reason="", version=message.version, variables={"first_name": "Ada"}
    )
    Customer.objects.update(name="Grace")

    page = console.get(profile(customer)).content.decode()

    assert "Hi Ada" in page
    assert "Hi Grace" not in page


def test_in_app_chat_is_the_default(console, boss, send, nudged):
    customer = CustomerFactory(name="Ada")
    assert console.get(composer(customer)).context["form"].way_chosen == "chat"

    answer = send(customer)

    message = Message.objects.get()
    record = DeliveryRecord.objects.get()
    assert (message.channel, message.format, message.state) == ("in_app", "chat", State.LIVE)
    assert (message.to_customer, message.audience, message.send_type) == (customer, None, "one_off")
    assert (message.created_by, message.version.author, message.title) == (boss, boss, "Hi Ada")
    assert (record.customer, record.status, record.reason) == (customer, Status.WAITING, Reason.VISIT)
    assert nudged == ["hand over"]
    assert answer.redirect_chain[-1][0] == profile(customer)
    assert "Ada will see the message as soon as they are in your app." in answer.content.decode()
    assert LogEntry.objects.get().object_id == str(customer.pk)


def test_announcement_is_sent(send):
    send(CustomerFactory(), way="announcement", subject="News")

    assert (Message.objects.get().format, Message.objects.get().version.subject) == ("announcement", "News")


def test_email_is_sent(send):
    customer = CustomerFactory(email="ada@acme.example")

    send(customer, way="email", subject="A question")

    record = DeliveryRecord.objects.get()
    assert (record.message.channel, record.message.title, record.reason) == ("email", "A question", Reason.QUEUED)


def test_profile_shows_active_and_inactive_devices(console):
    customer = CustomerFactory()
    Device.objects.create(customer=customer, token="old", platform="ios", created_at=AT, retired_at=AT)
    Device.objects.create(customer=customer, token="secret-token", platform="android", created_at=AT)

    shown = console.get(profile(customer))

    assert shown.context["devices"] == [
        ("Android", "Receives push notifications since 4 May 2026"),
        ("iOS", "Inactive since 4 May 2026"),
    ]
    assert "secret-token" not in shown.content.decode()


def test_push_is_offered_only_to_customers_with_a_device(console, send):
    customer = CustomerFactory()
    assert "push" not in [way["name"] for way in console.get(composer(customer)).context["ways"]]
    Device.objects.create(customer=customer, token="t", created_at=AT)

    send(customer, way="push", body="", text="Your order is here", link="https://shop.example/orders")

    version = Message.objects.get().version
    assert (version.body, version.link) == ("<p>Your order is here</p>", "https://shop.example/orders")


@pytest.mark.parametrize(
    ("typed", "field", "says"),
    [
        ({"body": ""}, "body", "The message has no text yet."),
        ({"body": "{{ nobody }}"}, "body", "There is no variable"),
        ({"sender": ""}, "sender", "Choose who the message is from."),
        ({"way": "email"}, "subject", "An email needs a subject."),
        ({"way": "email", "subject": "Hi {{"}, "subject", "Line 1"),
        ({"way": "pigeon"}, "way", "not one of the available choices"),
        ({"way": "push", "text": "hi"}, "way", "has no device"),
        ({"body": "{{ company.name }}"}, "company", "choose which company it is about"),
    ],
)
def test_invalid_message_shows_field_error_and_is_not_stored(send, typed, field, says):
    answer = send(CustomerFactory(name="Ada", email="ada@acme.example"), **typed)

    assert says in " ".join(answer.context["form"].errors[field])
    assert not Message.objects.exists()
    assert not DeliveryRecord.objects.exists()
    assert not LogEntry.objects.exists()


def test_company_variable_uses_the_chosen_company(send):
    customer = MembershipFactory(company__name="Acme").customer
    other = CompanyFactory(name="Elsewhere")
    company = customer.companies.get()

    refused = send(customer, body="<p>{{ company.name }}</p>", company=other.pk)
    assert "company" in refused.context["form"].errors
    send(customer, body="<p>{{ company.name }}</p>", company=company.pk)

    assert DeliveryRecord.objects.get().company == company
    assert Message.objects.get().to_company == company


def test_archived_company_cannot_be_chosen(send):
    member = MembershipFactory(company__archived=True)

    answer = send(member.customer, body="<p>{{ company.name }}</p>", company=member.company.pk)

    assert "company" in answer.context["form"].errors
    assert not Message.objects.exists()


def test_form_posted_twice_sends_once(console, send):
    customer = CustomerFactory()
    shown = ticket(console, customer)

    send(customer, ticket=shown)
    answer = send(customer, ticket=shown)

    assert Message.objects.count() == DeliveryRecord.objects.count() == LogEntry.objects.count() == 1
    assert answer.status_code == 200


def test_unsubscribed_customer_causes_a_warning_and_can_be_emailed(console, send):
    customer = CustomerFactory(name="Ada", email="ada@acme.example", unsubscribed_from_emails=True)
    assert "Ada unsubscribed from emails." in console.get(composer(customer)).content.decode()

    send(customer, way="email", subject="Sorry")

    assert DeliveryRecord.objects.get().status == Status.WAITING


@pytest.mark.parametrize("flag", ["has_hard_bounced", "marked_email_as_spam"])
def test_bounce_and_complaint_block_email_until_cleared(console, send, flag):
    customer = CustomerFactory(name="Ada", email="ada@acme.example", **{flag: True})

    refused = send(customer, way="email", subject="Hi")
    assert "on their profile" in " ".join(refused.context["form"].errors["way"])
    assert not Message.objects.exists()

    clear = reverse("admin:customer_clear", args=[customer.pk, flag])
    assert clear in console.get(profile(customer)).content.decode()
    console.post(clear)
    console.post(clear)
    assert LogEntry.objects.get().get_change_message().startswith("Cleared")
    send(customer, way="email", subject="Hi")
    assert DeliveryRecord.objects.count() == 1


def test_bounced_customer_receives_in_app_messages(send):
    send(CustomerFactory(has_hard_bounced=True))

    assert DeliveryRecord.objects.count() == 1


def test_unknown_flag_cannot_be_cleared(console):
    customer = CustomerFactory(unsubscribed_from_emails=True)

    assert console.post(f"/admin/audiences/customer/{customer.pk}/clear/archived_at/").status_code == 404
    assert console.get(f"/admin/audiences/customer/{customer.pk}/clear/has_hard_bounced/").status_code == 303
    customer.refresh_from_db()
    assert customer.unsubscribed_from_emails


def test_sending_requires_the_permission(log_in_with):
    console = log_in_with("audiences.view_customer")
    customer = CustomerFactory(has_hard_bounced=True)

    assert "Send a message" not in console.get(profile(customer)).content.decode()
    assert console.get(composer(customer)).status_code == console.post(composer(customer)).status_code == 403
    assert console.post(f"/admin/audiences/customer/{customer.pk}/clear/has_hard_bounced/").status_code == 403


def test_unknown_customer_is_not_found(console):
    for address in ("change/", "message/", "history/"):
        assert console.get(f"/admin/audiences/customer/424242/{address}").status_code in (302, 404)
    assert console.get("/admin/audiences/customer/424242/change/").status_code == 404
    assert console.get("/admin/audiences/customer/424242/message/").status_code == 404


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"Ada", "Bob", "Lee"}),
        ("q=ada", {"Ada"}),
        ("q=bob@", {"Bob"}),
        ("q=lee-7", {"Lee"}),
        ("role__exact=lead", {"Bob"}),
        ("segment={segment}", {"Ada"}),
        ("segment=999999", set()),
        ("segment=nonsense", set()),
        ("tags__id__exact={tag}", {"Lee"}),
    ],
)
def test_search_finds_people(console, query, shown):
    CustomerFactory(name="Ada", country="Ireland")
    CustomerFactory(name="Bob", email="bob@acme.example", lead=True)
    tag = CustomerTagFactory(customer=CustomerFactory(name="Lee", user_id="lee-7")).tag
    segment = SegmentFactory(rules={"match": "all", "rules": [rule("country", "is", "Ireland")]})

    query = query.format(segment=segment.pk, tag=tag.pk)
    found = console.get(f"/admin/audiences/customer/?{query}").context["cl"].result_list

    assert {customer.name for customer in found} == shown


def test_number_of_queries_does_not_grow_with_messages(console, django_assert_max_num_queries):
    customer = MembershipFactory().customer

    def receive(count: int) -> None:
        for _ in range(count):
            message = MessageFactory(in_app=True, one_off=True, live=True, body="<p>Hi {{ first_name }}</p>")
            message.records.update(status=Status.SENT, sent_at=AT, reason="", version=message.version)
            record = message.records.get()
            talk = Conversation.objects.create(customer=customer, record=record, created_at=AT, updated_at=AT)
            ConversationPart.objects.create(conversation=talk, body="Hello", by_customer=True, created_at=AT)

    receive(2)
    console.get(profile(customer))
    with django_assert_max_num_queries(100) as few:
        console.get(profile(customer))
    receive(8)
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(profile(customer))


def test_message_form_can_be_framed_by_the_console_only_as_a_sheet(console):
    page = composer(CustomerFactory())

    sheet, whole = console.get(f"{page}?sheet=1"), console.get(page)

    assert (sheet.headers["X-Frame-Options"], whole.headers["X-Frame-Options"]) == ("SAMEORIGIN", "DENY")
    assert "frame-ancestors 'self'" in sheet.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in whole.headers["Content-Security-Policy"]
