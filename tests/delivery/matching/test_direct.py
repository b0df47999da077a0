"""Direct messages: the record, unreachable customers, and refusals that store nothing (behaviour 4.12)."""

import pytest
from django.core.exceptions import ValidationError

from audiences.models import Device
from delivery.matching import direct
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message, State
from tests.factories import AT, CompanyFactory, CustomerFactory, MembershipFactory, SenderFactory

pytestmark = pytest.mark.django_db
REACHABLE = {"user_id": "ada", "email": "ada@acme.example"}


def send(customer, **changes) -> DeliveryRecord:
    asked = {"channel": "in_app", "format": "chat", "subject": "", "body": "<p>Hi</p>", "by": None, "at": AT}
    return direct.send_to_one(customer, **{"sender": SenderFactory(), **asked, **changes})


def test_is_live_at_once_with_its_one_record():
    customer = CustomerFactory()

    record = send(customer)

    message = Message.objects.get()
    assert (message.to_customer, message.audience, message.state, message.went_live_at) == (
        customer,
        None,
        State.LIVE,
        AT,
    )
    assert (record.customer, record.message, record.status) == (customer, message, Status.WAITING)


@pytest.mark.parametrize(
    ("facts", "channel", "reason"),
    [
        ({}, "email", None),
        ({"unsubscribed_from_emails": True}, "email", None),
        ({"email": None}, "email", Reason.NO_EMAIL),
        ({"has_hard_bounced": True}, "email", Reason.BOUNCED),
        ({"marked_email_as_spam": True}, "email", Reason.COMPLAINED),
        ({"has_hard_bounced": True, "marked_email_as_spam": True}, "in_app", None),
        ({"archived_at": AT}, "in_app", Reason.ARCHIVED),
        ({}, "push", Reason.NO_DEVICE),
    ],
)
def test_unreachable_customer(facts, channel, reason):
    customer = CustomerFactory(**{**REACHABLE, **facts})

    assert direct.unreachable_reason(customer, channel=channel) == reason


def test_push_needs_a_device_that_is_not_retired():
    customer = CustomerFactory()
    device = Device.objects.create(customer=customer, token="t", created_at=AT)

    assert direct.unreachable_reason(customer, channel="push") is None
    device.retired_at = AT
    device.save()
    assert direct.unreachable_reason(customer, channel="push") == Reason.NO_DEVICE


@pytest.mark.parametrize("reason", [Reason(reason) for reason in direct.UNREACHABLE_ERRORS])
def test_every_reason_reads_as_a_sentence(reason):
    assert direct.UNREACHABLE_ERRORS[reason].format(customer="Ada").startswith(("Ada", "An email to Ada"))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"channel": "email", "format": "", "subject": " "}, {"subject"}),
        ({"sender": None, "body": "<div><br></div>"}, {"sender", "body"}),
        ({"body": "{{ nobody }}"}, {"body"}),
        ({"body": "{{ company.name }}"}, {"company"}),
        ({"channel": "push", "format": ""}, {"channel"}),
        ({"format": "postcard"}, {"format"}),
    ],
)
def test_a_refusal_names_its_fields_and_writes_nothing(changes, fields):
    with pytest.raises(ValidationError) as refused:
        send(CustomerFactory(**REACHABLE), **changes)

    assert set(refused.value.message_dict) == fields
    assert not Message.objects.exists()
    assert not DeliveryRecord.objects.exists()


def test_is_about_a_company_of_the_customer_alone():
    customer = MembershipFactory(company__name="Acme").customer
    body = "<p>{{ company.name }}</p>"

    with pytest.raises(ValidationError, match="is not in"):
        send(customer, body=body, company=CompanyFactory())
    assert send(customer, body=body, company=customer.companies.get()).company.name == "Acme"


def test_a_company_the_text_does_not_speak_of_is_left_out():
    customer = MembershipFactory().customer

    assert send(customer, company=customer.companies.get()).company is None


def test_is_listed_by_its_subject_or_first_words():
    customer = CustomerFactory(name="Ada Byron", **REACHABLE)

    assert send(customer, channel="email", format="", subject="A question").message.title == "A question"
    assert send(customer, body="<h1>Hi</h1><p>there</p>").message.title == "Hi there"
    assert send(customer, body="<p>Hi {{ first_name | default: 'there' }}!</p>").message.title == "Hi Ada!"
    assert len(send(customer, body="<p>word </p>" * 50).message.title) == direct.TITLE_MAX_LENGTH
