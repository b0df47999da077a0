"""Webhooks of email service providers: authenticated by the secret alone, and understood from every provider."""

import hmac
import json
from base64 import b64encode
from datetime import datetime, timedelta
from email.message import EmailMessage
from types import SimpleNamespace
from uuid import UUID

import pytest
from anymail.signals import EventType, RejectReason
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from audiences.models import Customer
from config import urls
from delivery import process, rendering, reply_addresses
from delivery.inbound import esp_webhooks
from delivery.inbound.feedback import FeedbackType
from delivery.models import ConversationPart, DeliveryRecord, Reason, Status
from delivery.sending import dispatcher
from messaging.content.plain_text import html_to_text
from tests.factories import CustomerFactory, MessageFactory
from tests.support.http_provider import PROVIDER_ID, Act, Provider
from tests.support.inbound_emails import reply_sample

pytestmark = pytest.mark.django_db

TRACKING, INBOUND = "/webhooks/anymail/postmark/tracking/", "/webhooks/anymail/postmark/inbound/"
SECRET = "Basic " + b64encode(b"provider:secret").decode()


@pytest.fixture
def post():
    """Post to a webhook, with the secret or with another authorization."""

    def post(address: str, event: dict, *, authorization: str | None = SECRET):
        headers = {"Authorization": authorization} if authorization else {}
        return Client(headers=headers).post(address, json.dumps(event), content_type="application/json")

    return post


@pytest.fixture
def record(at) -> DeliveryRecord:
    """A copy without any event of the provider."""
    CustomerFactory(user_id="ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    rows.update(status=Status.SENDING, claim=UUID(int=1), leased_until=at, taken_at=at)
    rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="timed out")
    return record


def event(record: DeliveryRecord, kind: str = "Delivery", **facts) -> dict:
    """Return Postmark's event about a copy."""
    return {
        "RecordType": kind,
        "MessageID": PROVIDER_ID,
        "Recipient": "ann@x.example",
        "Email": "ann@x.example",
        "DeliveredAt": "2026-05-04T10:00:08Z",
        "Metadata": {"outbound_copy": rendering.message_id(record.pk)},
        **facts,
    }


def bounce(record: DeliveryRecord, kind: str, **facts) -> dict:
    told = event(record, "Bounce", Type=kind, BouncedAt="2026-05-04T10:00:09Z", ID=42, **facts)
    return {name: value for name, value in told.items() if name != "DeliveredAt"}


# Authentication


@pytest.mark.parametrize("authorization", [None, "Basic " + b64encode(b"provider:guess").decode(), "Bearer secret"])
@pytest.mark.parametrize("address", [TRACKING, INBOUND])
def test_request_without_the_secret_is_refused(post, record, address, authorization):
    assert post(address, bounce(record, "HardBounce"), authorization=authorization).status_code == 400

    record.refresh_from_db()
    assert (record.status, Customer.objects.get().has_hard_bounced) == (Status.UNCERTAIN, False)


@pytest.mark.parametrize(
    "address", sorted({f"/webhooks/anymail/{entry.pattern}" for entry in esp_webhooks.urlpatterns})
)
def test_provider_without_settings_is_not_found_without_the_secret(client, address):
    """Only a request with the secret may learn which settings are missing."""
    client.raise_request_exception = False

    # Amazon SNS sends the secret only after a 401; its view exists if boto3 is installed.
    assert client.post(address, "{}", "application/json").status_code in (400, 401, 404)
    assert client.get(address).status_code in (404, 405)


def test_without_a_secret_there_are_no_webhooks(settings):
    settings.WEBHOOK_SECRET = []

    assert urls.provider_webhooks() == []
    settings.WEBHOOK_SECRET = ["a:b"]
    assert [f"{entry.pattern}" for entry in urls.provider_webhooks()] == ["webhooks/anymail/"]


def test_every_provider_of_anymail_has_its_urls(client, settings):
    settings.ANYMAIL = {
        **settings.ANYMAIL,
        "MAILGUN_WEBHOOK_SIGNING_KEY": "key",
        "BREVO_API_KEY": "key",
        "RESEND_API_KEY": "key",
    }
    for provider in ("postmark", "mailgun", "brevo", "sparkpost", "resend", "mailjet"):
        for what in ("tracking", "inbound"):
            assert client.get(f"/webhooks/anymail/{provider}/{what}/").status_code == 405


def test_large_email_is_accepted_with_the_secret(post, record, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    large = event(record, Tag="x" * 5_000)

    assert post(TRACKING, large, authorization=None).status_code == 400
    assert post(TRACKING, large).status_code == 200
    record.refresh_from_db()
    assert record.status == Status.SENT


def test_request_above_the_maximum_size_is_refused(post, record, monkeypatch):
    monkeypatch.setattr(esp_webhooks, "MAX_REQUEST_BYTES", 1_000)

    assert post(TRACKING, event(record, Tag="x" * 5_000)).status_code == 413


# Events


def test_delivery_event_settles_an_uncertain_record(post, record, at):
    assert post(TRACKING, event(record)).status_code == 200

    record.refresh_from_db()
    assert (record.status, record.sent_at, record.provider_id) == (Status.SENT, at, PROVIDER_ID)


@pytest.mark.parametrize(
    ("kind", "status", "bounced", "flagged"),
    [
        ("HardBounce", Status.SENT, True, True),
        ("SoftBounce", Status.SENT, True, False),
        ("Transient", Status.SENT, False, False),
        ("DnsError", Status.SENT, False, False),
        ("AutoResponder", Status.SENT, False, False),
        ("BadEmailAddress", Status.FAILED, True, True),
        ("Blocked", Status.FAILED, False, False),
        ("Unknown", Status.UNCERTAIN, False, False),
    ],
)
def test_bounce_types_of_a_provider(post, record, kind, status, bounced, flagged):
    for _ in range(2):
        assert post(TRACKING, bounce(record, kind)).status_code == 200

    record.refresh_from_db()
    found = (record.status, record.bounced_at is not None, Customer.objects.get().has_hard_bounced)
    assert found == (status, bounced, flagged)


def test_complaint_unsubscribes_the_customer(post, record):
    complaint = event(record, "SpamComplaint", Type="SpamComplaint", BouncedAt="2026-05-04T12:00:00Z")

    post(TRACKING, complaint)

    customer = Customer.objects.get()
    assert (customer.marked_email_as_spam, customer.unsubscribed_from_emails) == (True, True)


def test_event_is_recorded_with_the_providers_time(post, record, at, time_machine):
    time_machine.move_to(at + timedelta(days=3))

    post(TRACKING, bounce(record, "HardBounce"))

    record.refresh_from_db()
    assert record.bounced_at == at + timedelta(seconds=9)


def test_provider_clock_that_is_ahead_records_no_future_time(post, record, at, time_machine):
    time_machine.move_to(at)

    post(TRACKING, bounce(record, "HardBounce"))

    record.refresh_from_db()
    assert record.bounced_at == at


def test_copy_is_found_by_provider_id_alone(post, record):
    DeliveryRecord.objects.update(provider_id=PROVIDER_ID)

    post(TRACKING, event(record, Metadata={}))

    record.refresh_from_db()
    assert record.status == Status.SENT


@pytest.mark.parametrize(
    "metadata", [{}, {"outbound_copy": "<1.aaaaaaaaaaaaaaaa@acme.example>"}, {"outbound_copy": ["x"]}]
)
def test_event_about_a_foreign_email_changes_nothing(post, record, metadata):
    assert post(TRACKING, event(record, Metadata=metadata)).status_code == 200

    record.refresh_from_db()
    assert record.status == Status.UNCERTAIN


def provider_says(kind: str, *, reason: str | None = None, words: str = "", **own) -> SimpleNamespace:
    return SimpleNamespace(
        event_type=kind, reject_reason=reason, mta_response=words or None, description=None, esp_event=own
    )


@pytest.mark.parametrize(
    ("provider", "said", "what"),
    [
        ("Amazon SES", provider_says(EventType.BOUNCED, bounce={"bounceType": "Permanent"}), FeedbackType.NO_MAILBOX),
        ("Amazon SES", provider_says(EventType.BOUNCED, bounce={"bounceType": "Transient"}), FeedbackType.BOUNCED),
        (
            "Amazon SES",
            provider_says(EventType.BOUNCED, words="smtp; 550 5.7.1 spam", bounce={"bounceType": "Permanent"}),
            FeedbackType.BOUNCED,
        ),
        (
            "Amazon SES",
            provider_says(EventType.BOUNCED, words="smtp; 550 5.1.1 unknown", bounce={"bounceType": "Permanent"}),
            FeedbackType.NO_MAILBOX,
        ),
        (
            "Brevo",
            provider_says(EventType.BOUNCED, reason=RejectReason.INVALID, event="invalid_email"),
            FeedbackType.NO_MAILBOX,
        ),
        ("Mailjet", provider_says(EventType.BOUNCED, hard_bounce=True, error="quota exceeded"), FeedbackType.BOUNCED),
        ("SparkPost", provider_says(EventType.BOUNCED, bounce_class="10"), FeedbackType.NO_MAILBOX),
        ("SparkPost", provider_says(EventType.BOUNCED, bounce_class="22"), FeedbackType.BOUNCED),
        ("SparkPost", provider_says(EventType.BOUNCED, bounce_class="1", words="550 no user"), FeedbackType.NO_MAILBOX),
        (
            "Unisender Go",
            provider_says(EventType.BOUNCED, delivery_info={"delivery_status": "err_user_unknown"}),
            FeedbackType.NO_MAILBOX,
        ),
        (
            "Unisender Go",
            provider_says(EventType.BOUNCED, delivery_info={"delivery_status": "err_mailbox_full"}),
            FeedbackType.BOUNCED,
        ),
        ("Mailgun", provider_says(EventType.BOUNCED, words="550 blocked for reputation"), FeedbackType.BOUNCED),
        ("Postal", provider_says(EventType.REJECTED, reason=RejectReason.INVALID), FeedbackType.REFUSED_NO_MAILBOX),
        ("Brevo", provider_says(EventType.BOUNCED, event="hard_bounce"), FeedbackType.NO_MAILBOX),
        ("Brevo", provider_says(EventType.BOUNCED, event="soft_bounce"), FeedbackType.BOUNCED),
        ("MailerSend", provider_says(EventType.BOUNCED, data={"type": "soft_bounced"}), FeedbackType.BOUNCED),
        ("Mailjet", provider_says(EventType.BOUNCED, hard_bounce=True), FeedbackType.NO_MAILBOX),
        ("Mailjet", provider_says(EventType.BOUNCED, hard_bounce=False), FeedbackType.BOUNCED),
        ("Mandrill", provider_says(EventType.BOUNCED, event="soft_bounce"), FeedbackType.BOUNCED),
        ("Mailgun", provider_says(EventType.BOUNCED, words="550 5.1.1 no such user"), FeedbackType.NO_MAILBOX),
        ("Mailgun", provider_says(EventType.BOUNCED, words="550 5.7.1 we do not like it"), FeedbackType.BOUNCED),
        ("Mailgun", provider_says(EventType.BOUNCED), FeedbackType.NO_MAILBOX),
        ("SendGrid", provider_says(EventType.BOUNCED, type="blocked"), FeedbackType.BOUNCED),
        ("SendGrid", provider_says(EventType.BOUNCED, type="bounce", words="550 5.1.1 none"), FeedbackType.NO_MAILBOX),
        ("Resend", provider_says(EventType.BOUNCED, data={"bounce": {"type": "Permanent"}}), FeedbackType.NO_MAILBOX),
        ("Resend", provider_says(EventType.BOUNCED, data={"bounce": {"type": "Transient"}}), FeedbackType.BOUNCED),
        ("Postal", provider_says(EventType.BOUNCED, reason=RejectReason.TIMED_OUT), FeedbackType.BOUNCED),
        ("Postal", provider_says(EventType.REJECTED, reason=RejectReason.SPAM), FeedbackType.COMPLAINED),
        ("Postal", provider_says(EventType.REJECTED, reason=RejectReason.UNSUBSCRIBED), FeedbackType.UNSUBSCRIBED),
        ("Postal", provider_says(EventType.REJECTED, reason=RejectReason.BOUNCED), FeedbackType.REFUSED_NO_MAILBOX),
        ("Postal", provider_says(EventType.FAILED), FeedbackType.REFUSED),
        ("Postal", provider_says(EventType.SUBSCRIBED), None),
        ("Postal", provider_says(EventType.UNKNOWN), None),
    ],
)
def test_hard_bounces_of_every_provider(provider, said, what):
    assert esp_webhooks.feedback_type_of(said, esp_name=provider) is what


def test_every_event_of_anymail_is_handled():
    said = {value for name, value in vars(EventType).items() if name.isupper()}
    nothing_of_a_mail = {EventType.SUBSCRIBED, EventType.INBOUND, EventType.INBOUND_FAILED, EventType.UNKNOWN}
    assert set(esp_webhooks.FEEDBACK_OF_EVENT) == said - nothing_of_a_mail


# Inbound email


@pytest.fixture
def inbound(settings) -> None:
    settings.INBOUND_DOMAIN = "reply.acme.example"


def test_reply_through_a_provider_is_added_once(inbound, post, record):
    came = {
        "FromFull": {"Email": "ann@x.example", "Name": "Ann"},
        "ToFull": [{"Email": reply_addresses.reply_address(record), "Name": "Ada"}],
        "OriginalRecipient": reply_addresses.reply_address(record),
        "MessageID": "a1",
        "Subject": "Re: Hi",
        "Headers": [{"Name": "Return-Path", "Value": "<ann@x.example>"}, {"Name": "Message-ID", "Value": "<1@x>"}],
        "TextBody": "Thanks!\n\nOn Mon, May 4, 2026 at 10:00 AM Ada <ada@acme.example> wrote:\n> Hello",
        "HtmlBody": "",
        "Attachments": [
            {
                "Name": "seen.png",
                "ContentType": "image/png",
                "Content": b64encode(b"\x89PNG\r\n\x1a\n123").decode(),
            }
        ],
    }

    assert [post(INBOUND, came).status_code for _ in range(2)] == [200, 200]

    part = ConversationPart.objects.get()
    assert (html_to_text(part.body), [file["name"] for file in part.attachments]) == ("Thanks!", ["seen.png"])
    record.refresh_from_db()
    assert (record.status, record.replied_at is not None) == (Status.SENT, True)


def test_raw_email_through_a_provider_is_parsed_like_one_from_a_pipe(inbound, post, record):
    mail = reply_sample(record, "apple_mail").decode()

    assert post(INBOUND, {"FromFull": {}, "RawEmail": mail, "MessageID": "a2"}).status_code == 200

    assert html_to_text(ConversationPart.objects.get().body).startswith("Hello Ada,\n\ncan I invite")


LARGE = 4 * 2**20


@pytest.fixture
def form(settings):
    """Post a form to a webhook, as Mailgun does with an email."""
    settings.DATA_UPLOAD_MAX_NUMBER_FILES = 3
    settings.ANYMAIL = {**settings.ANYMAIL, "MAILGUN_WEBHOOK_SIGNING_KEY": "key"}

    def form(provider: str, **fields):
        signed = hmac.new(b"key", b"1777888999nonce", "sha256").hexdigest()
        fields = {"timestamp": "1777888999", "token": "nonce", "signature": signed, **fields}
        return Client(headers={"Authorization": SECRET}).post(f"/webhooks/anymail/{provider}/inbound/", fields)

    return form


def with_a_large_file(record: DeliveryRecord) -> str:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Message-ID"] = "ann@x.example", reply_addresses.reply_address(record), "<1@x>"
    mail.set_content("Grüße, see the film!\n", cte="8bit")
    mail.add_attachment(b"\xff" * LARGE, maintype="video", subtype="mp4", filename="film.mp4")
    return mail.as_bytes().decode()


def test_raw_email_in_a_form_is_accepted_with_large_files(inbound, form, record):
    assert form("mailgun", **{"body-mime": with_a_large_file(record)}).status_code == 200

    part = ConversationPart.objects.get()
    assert (html_to_text(part.body), part.attachments[0]["filesize"]) == ("Grüße, see the film!", LARGE)


def test_parsed_email_in_a_form_is_accepted_with_many_large_fields(inbound, form, record):
    files = {f"attachment-{n}": SimpleUploadedFile(f"{n}.txt", b"%d" % n, "text/plain") for n in range(1, 6)}
    headers = [["From", "ann@x.example"], ["To", reply_addresses.reply_address(record)], ["Message-ID", "<1@x>"]]
    told = {"message-headers": json.dumps(headers), "attachment-count": "5", "body-html": "<p>Hi</p>" + " " * LARGE}

    assert form("mailgun", **told, **files).status_code == 200

    part = ConversationPart.objects.get()
    names = [file["name"] for file in part.attachments]
    assert (html_to_text(part.body), names) == ("Hi", ["1.txt", "2.txt", "3.txt", "4.txt", "5.txt"])


def test_form_without_the_secret_has_the_usual_limits(inbound, form, record, monkeypatch):
    monkeypatch.setattr(
        "tests.delivery.inbound.test_esp_webhooks.SECRET", "Basic " + b64encode(b"provider:guess").decode()
    )

    assert form("mailgun", **{"body-mime": "x" * LARGE}).status_code == 400


def test_email_nested_too_deeply_is_answered_with_200(inbound, post, record):
    deep = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(2_000))

    answered = post(INBOUND, {"FromFull": {}, "RawEmail": f"From: ann@x.example\n{deep}", "MessageID": "a3"})

    assert (answered.status_code, ConversationPart.objects.exists()) == (200, False)


def test_error_is_answered_with_500(post, record, monkeypatch):
    def broken(*_args, **_facts):
        raise RuntimeError("no")

    monkeypatch.setattr(esp_webhooks.feedback, "record_feedback", broken)
    client = Client(headers={"Authorization": SECRET}, raise_request_exception=False)

    answer = client.post(TRACKING, json.dumps(event(record)), content_type="application/json")

    assert answer.status_code == 500


# From sending to the webhook


@pytest.fixture
def provider(settings):
    """Postmark on a real socket, named in the settings."""
    started = []

    def start(*answers) -> Provider:
        started.append(Provider(*answers))
        settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
        secrets = {"POSTMARK_SERVER_TOKEN": "secret", "POSTMARK_API_URL": started[-1].url, "REQUESTS_TIMEOUT": 0.5}
        settings.ANYMAIL = {**settings.ANYMAIL, **secrets}
        return started[-1]

    yield start
    process.close_resources()
    for each in started:
        each.close()


def hand_over(at: datetime) -> None:
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))


@pytest.fixture
def due(at) -> DeliveryRecord:
    CustomerFactory(user_id="ann", email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at).records.get()


def test_uncertain_copy_is_settled_by_the_providers_event(provider, post, due, at):
    api = provider(Act.DROP)
    hand_over(at)
    due.refresh_from_db()
    assert due.status == Status.UNCERTAIN

    post(TRACKING, event(due, Metadata=api.mails[0]["Metadata"]))

    due.refresh_from_db()
    assert (due.status, due.provider_id, len(api.mails)) == (Status.SENT, PROVIDER_ID, 1)


def test_retry_is_cancelled_once_the_provider_reports_the_copy(provider, post, due, at):
    api = provider((500, "oops"))
    hand_over(at)
    due.refresh_from_db()
    assert (due.status, due.reason) == (Status.WAITING, Reason.RETRY)

    post(TRACKING, event(due, Metadata=api.mails[0]["Metadata"]))
    hand_over(at + timedelta(hours=1))

    due.refresh_from_db()
    assert (due.status, len(api.mails)) == (Status.SENT, 1)


def test_provider_id_is_recorded_when_the_provider_accepts(provider, due, at):
    provider()

    hand_over(at)

    due.refresh_from_db()
    assert (due.status, due.provider_id) == (Status.SENT, PROVIDER_ID)


def test_address_refused_by_the_provider_is_a_hard_bounce(provider, due, at):
    provider((422, {"ErrorCode": 300, "Message": "Error parsing 'To': Illegal email address 'ann@x.example'."}))

    hand_over(at)

    due.refresh_from_db()
    assert (due.status, due.reason, due.bounced_at) == (Status.FAILED, Reason.BOUNCED, at)
    assert Customer.objects.get().has_hard_bounced


def test_provider_outage_uses_up_no_attempt(provider, due, at):
    provider((503, "back soon"))

    hand_over(at)

    due.refresh_from_db()
    assert (due.status, due.attempts, due.due_at) == (Status.WAITING, 0, at + timedelta(minutes=1))
