"""Malformed requests to the webhooks of every provider: refused with status 400, never an error of ours."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from anymail.webhooks import amazon_ses
from anymail.webhooks.base import AnymailCoreWebhookView
from django.test import Client

from delivery.inbound import esp_webhooks, router
from delivery.models import DeliveryRecord
from delivery.rendering import message_id
from tests.factories import CustomerFactory, MessageFactory

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailWarning")]
SECRET = "Basic " + b64encode(b"provider:secret").decode()
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
MAIL = "From: ann@x.example\r\nTo: reply@acme.example\r\nSubject: Hi\r\n\r\nHello"
KEYS = ("MAILGUN_WEBHOOK_SIGNING_KEY", "BREVO_API_KEY", "SENDINBLUE_API_KEY", "RESEND_API_KEY", "MANDRILL_WEBHOOK_KEY",
        "MAILERSEND_SIGNING_SECRET", "MAILERSEND_INBOUND_SECRET", "POSTAL_WEBHOOK_KEY", "UNISENDER_GO_API_KEY",
        "MAILTRAP_API_TOKEN")  # fmt: skip
ADDRESSES = sorted({f"{entry.pattern}".replace("^", "").replace("(_mime)?", "").replace("$", "")
                    for entry in esp_webhooks.urlpatterns})  # fmt: skip
MALFORMED = {
    "empty": (b"", JSON),
    "not JSON": (b"Hello", JSON),
    "not UTF-8": (b"\xff\xfe", JSON),
    "text": (b'"text"', JSON),
    "number": (b"1", JSON),
    "null": (b"null", JSON),
    "list of numbers": (b"[1]", JSON),
    "empty form": (b"", FORM),
    "form without the fields": (b"a=b", FORM),
    "cut form": (b"x", "multipart/form-data; boundary=b"),
    "form without a boundary": (b"x", "multipart/form-data"),
}


@pytest.fixture(autouse=True)
def every_provider_is_set_up(settings, monkeypatch) -> None:
    settings.ANYMAIL = {**settings.ANYMAIL, **dict.fromkeys(KEYS, "key")}
    monkeypatch.setattr(amazon_ses, "_get_anymail_boto3_params", lambda **_options: ({}, {}))


@pytest.fixture
def without_signatures(monkeypatch) -> None:
    """Accept every signature, so that the bodies below reach the parsers."""
    monkeypatch.setattr(AnymailCoreWebhookView, "run_validators", lambda _view, _request: None)


# One client for all posts: each loads the middleware once.
CLIENT = Client(headers={"Authorization": SECRET})


def post(address: str, body: Any, content_type: str = JSON) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return CLIENT.post(f"/webhooks/anymail/{address}", content, content_type)


@pytest.mark.parametrize("address", ADDRESSES)
def test_malformed_body_is_refused(address):
    assert {kind: post(address, *body).status_code for kind, body in MALFORMED.items()} == dict.fromkeys(MALFORMED, 400)


@pytest.mark.parametrize("address", ADDRESSES)
def test_malformed_body_with_a_valid_signature_is_refused(without_signatures, address):
    assert {kind: post(address, *body).status_code for kind, body in MALFORMED.items()} == dict.fromkeys(MALFORMED, 400)


@pytest.mark.parametrize("address", ADDRESSES)
def test_body_without_fields_is_refused_or_an_unknown_event(without_signatures, address):
    answers = [post(address, body).status_code for body in ({}, [{}])]

    assert 400 in answers
    assert set(answers) <= {200, 400}


def test_refusal_says_why():
    answer = post("postmark/tracking/", b"Hello")

    assert answer.content.decode() == "The body of this request is not in the format of this provider."


def variants(value: Any) -> Iterator[Any]:
    """Yield the JSON value with each part of it, one at a time, missing or of another type."""
    yield from (None, 1e300, "\0")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(value, dict):
            yield {name: kept for name, kept in value.items() if name != key}
        for changed in variants(part):
            yield {**value, key: changed} if isinstance(value, dict) else [*value[:key], changed, *value[key + 1 :]]


def tracking_events(copy: str) -> dict[str, Any]:
    """Return an event about a copy from every provider."""
    ann, own = "ann@x.example", {"outbound_copy": copy}
    ses = {
        "eventType": "Bounce",
        "mail": {"messageId": "m", "destination": [ann], "headers": [{"name": "X-Metadata", "value": json.dumps(own)}]},
        "bounce": {
            "bounceType": "Permanent",
            "bounceSubType": "General",
            "bouncedRecipients": [{"emailAddress": ann, "diagnosticCode": "5.1.1"}],
        },
    }
    return {
        "amazon_ses": {"Type": "Notification", "MessageId": "1", "Timestamp": "2026-05-04T10:00:08Z",
                       "Message": json.dumps(ses)},
        "brevo": {"event": "hard_bounce", "email": ann, "ts_epoch": 1777888808000, "message-id": copy,
                  "reason": "5.1.1", "tags": ["a"], "X-Mailin-custom": json.dumps(own)},
        "mailersend": {"type": "activity.hard_bounced", "data": {"type": "hard_bounced", "id": "1",
                       "created_at": "2026-05-04T10:00:08Z", "morph": {"object": "recipient_bounce", "reason": "no"},
                       "email": {"message": {"id": copy}, "recipient": {"email": ann}, "tags": ["a"]}}},
        "mailgun": {"signature": {"token": "t"}, "event-data": {"event": "failed", "severity": "permanent",
                    "recipient": ann, "timestamp": 1777888808.5, "message": {"headers": {"message-id": copy}},
                    "user-variables": own, "tags": ["a"], "reason": "bounce",
                    "delivery-status": {"description": "no", "message": "5.1.1"}}},
        "mailjet": [{"event": "bounce", "time": 1777888808, "MessageID": 1, "email": ann, "hard_bounce": True,
                     "error": "user unknown", "Payload": json.dumps(own), "customcampaign": "a"}],
        "mailtrap": {"events": [{"event": "bounce", "timestamp": 1777888808, "message_id": copy, "email": ann,
                                 "custom_variables": own, "category": "a", "response": "5.1.1"}]},
        "postal": {"event": "MessageDeliveryFailed", "timestamp": 1777888808.5, "payload": {"status": "HardFail",
                   "details": "no", "output": "5.1.1", "message": {"id": 1, "message_id": copy, "to": ann,
                                                                    "tag": "a"}}},
        "postmark": {"RecordType": "Bounce", "Type": "HardBounce", "TypeCode": 1, "MessageID": "m", "Email": ann,
                     "BouncedAt": "2026-05-04T10:00:08Z", "ID": 42, "Metadata": own, "Tag": "a", "Details": "no"},
        "resend": {"type": "email.bounced", "created_at": "2026-05-04T10:00:08Z", "data": {"email_id": "m",
                   "to": [ann], "bounce": {"type": "Permanent", "message": "no"},
                   "headers": [{"name": "X-Metadata", "value": json.dumps(own)}]}},
        "sendgrid": [{"event": "bounce", "timestamp": 1777888808, "email": ann, "reason": "5.1.1", "type": "bounce",
                      "anymail_id": copy, "sg_event_id": "1", "category": ["a"], **own}],
        "sparkpost": [{"msys": {"message_event": {"type": "bounce", "bounce_class": "10", "timestamp": "1777888808",
                       "transmission_id": "1", "event_id": "2", "raw_rcpt_to": ann, "raw_reason": "5.1.1",
                       "rcpt_meta": own, "rcpt_tags": ["a"]}}}],
        "unisender_go": {"auth": "x", "events_by_user": [{"events": [{"event_name": "transactional_email_status",
                         "event_data": {"status": "hard_bounced", "event_time": "2026-05-04 10:00:08", "email": ann,
                                        "job_id": "1", "metadata": own,
                                        "delivery_info": {"delivery_status": "err_user_unknown"}}}]}]},
    }  # fmt: skip


def inbound_emails() -> dict[str, Any]:
    """Return an inbound email as JSON from every provider that posts it so."""
    ann = "ann@x.example"
    return {
        "brevo": {"items": [{"Uuid": ["1"], "Headers": {"From": ann, "Received": ["a", "b"]}, "RawTextBody": "Hello",
                             "RawHtmlBody": None, "ExtractedMarkdownMessage": "Hello", "SpamScore": 1.5}]},
        "mailersend": {"type": "inbound.message", "data": {"id": "1", "created_at": "2026-05-04T10:00:08Z",
                       "raw": MAIL, "sender": {"email": ann}, "recipients": {"rcptTo": [{"email": "r@acme.example"}]}}},
        "mailjet": {"Sender": ann, "Recipient": "reply@acme.example", "Headers": {"From": ann, "Received": ["a"]},
                    "Parts": [{"ContentRef": "Attachment1", "Headers": {"Content-Type": "text/plain"}}],
                    "Attachment1": "eA==", "Text-part": "Hello", "SpamAssassinScore": "1"},
        "postal": {"id": 1, "rcpt_to": "reply@acme.example", "mail_from": ann, "base64": False, "message": MAIL},
        "postmark": {"FromFull": {"Email": ann, "Name": "Ann"}, "OriginalRecipient": "reply@acme.example",
                     "Headers": [{"Name": "Return-Path", "Value": ann}], "TextBody": "Hello", "HtmlBody": "",
                     "Attachments": [{"Name": "a.txt", "Content": "eA==", "ContentType": "text/plain"}]},
        "sparkpost": [{"msys": {"relay_message": {"protocol": "smtp", "msg_from": ann, "rcpt_to": "r@acme.example",
                       "content": {"email_rfc822": MAIL, "email_rfc822_is_base64": False}}}}],
    }  # fmt: skip


@pytest.fixture
def record(at) -> DeliveryRecord:
    CustomerFactory(email="ann@x.example")
    return MessageFactory(one_off=True, live=True, at=at).records.get()


@pytest.mark.parametrize("provider", sorted(tracking_events("")))
def test_tracking_event_with_a_missing_or_wrong_part_is_no_error(without_signatures, record, provider):
    event = tracking_events(message_id(record.pk))[provider]
    assert post(f"{provider}/tracking/", event).status_code == 200

    assert {post(f"{provider}/tracking/", wrong).status_code for wrong in variants(event)} <= {200, 400}


@pytest.mark.parametrize("provider", sorted(inbound_emails()))
def test_inbound_email_with_a_missing_or_wrong_part_is_no_error(without_signatures, provider):
    email = inbound_emails()[provider]
    assert post(f"{provider}/inbound/", email).status_code == 200

    assert {post(f"{provider}/inbound/", wrong).status_code for wrong in variants(email)} <= {200, 400}


def test_mandrill_events_with_missing_or_wrong_parts_are_no_error(without_signatures):
    event = {"event": "hard_bounce", "ts": 1777888808, "_id": "1", "msg": {"email": "ann@x.example", "_id": "m",
             "metadata": {}, "tags": ["a"], "diag": "5.1.1"}}  # fmt: skip
    email = {"event": "inbound", "ts": 1777888808, "msg": {"raw_msg": MAIL, "email": "r@acme.example",
             "from_email": "ann@x.example", "spam_report": {"score": 1.5}}}  # fmt: skip
    for posted in ([event], [email]):
        answers = {
            CLIENT.post("/webhooks/anymail/mandrill/", {"mandrill_events": json.dumps(wrong)}).status_code
            for wrong in variants(posted)
        }
        assert answers <= {200, 400}


def test_resend_email_without_an_id_is_refused(without_signatures):
    assert post("resend/inbound/", {"type": "email.received", "data": {}}).status_code == 400


def test_network_error_of_a_provider_is_an_error_so_that_it_posts_again(without_signatures, monkeypatch):
    def fail(*_args: object, **_options: object) -> None:
        raise requests.exceptions.InvalidJSONError("The provider's API does not answer in JSON.")

    monkeypatch.setattr(requests, "get", fail)

    with pytest.raises(requests.exceptions.InvalidJSONError):
        post("resend/inbound/", {"type": "email.received", "data": {"email_id": "1"}})


def test_error_of_our_own_is_an_error_so_that_the_provider_posts_again(without_signatures, monkeypatch):
    def fail(*_args: object, **_options: object) -> None:
        raise ValueError("A bug.")

    monkeypatch.setattr(router, "receive", fail)

    with pytest.raises(ValueError, match="A bug"):
        post("postal/inbound/", inbound_emails()["postal"])
