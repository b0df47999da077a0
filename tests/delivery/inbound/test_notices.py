"""Bounce notices of many servers: recognised, about the right address, hard only if the mailbox does not exist."""

from datetime import UTC, datetime
from time import process_time

import pytest

from delivery.inbound import dsn
from delivery.inbound.message import InboundEmail
from tests.support.notices import DELAY, HARD, THEM, TO, notice_samples

AT = datetime(2026, 5, 5, tzinfo=UTC)


def feedback_of(content: bytes, **envelope) -> list:
    """Return the feedback in an email that came to a bounce address; an empty list if it is not a notice."""
    email = InboundEmail.parse(content, recipient=TO, **envelope)
    return dsn.read_feedback(email, at=AT, at_bounce_address=True) or []


def test_collection_has_a_hundred_notices_of_many_servers():
    samples = list(notice_samples())

    assert len(samples) >= 100
    assert len({sample.server for sample in samples}) >= 25


@pytest.mark.parametrize("sender", ["", None], ids=["empty path", "unknown path"])
def test_every_notice_is_recognised_with_its_recipient_and_meaning(sender):
    wrong = []
    for sample in notice_samples():
        found = feedback_of(sample.content, envelope_sender=sender)
        if [(item.address, item.type) for item in found] != [(THEM, sample.meaning)]:
            what = [(item.address, str(item.type), item.detail) for item in found]
            wrong.append(f"{sample.server}: {sample.meaning} expected, found {what}")

    assert wrong == []


def test_no_soft_notice_or_warning_is_hard():
    hard = [
        sample.server
        for sample in notice_samples()
        if sample.meaning != HARD and any(item.type == HARD for item in feedback_of(sample.content))
    ]

    assert hard == []


def test_notice_is_never_a_personal_reply():
    samples = [sample for sample in notice_samples() if sample.meaning != DELAY]
    personal = [
        sample.server
        for sample in samples
        if dsn.read_feedback(email := InboundEmail.parse(sample.content), at=AT, at_bounce_address=False) is None
        and not email.auto_reply_reason
    ]

    assert personal == []


ANN = "From: Ann <ann@x.example>\n"
VACATIONS = {
    "by header": ANN + "Subject: Out of office\nAuto-Submitted: auto-replied\n\nI am back on Monday.",
    "with an empty path": ANN + "Return-Path: <>\nSubject: Re: Hi\n\nI could not be reached by email today.",
    "by subject": ANN + "Subject: Automatic reply: Undeliverable things\n\nI have not received your email.",
    "of a person who left": ANN + "Return-Path: <>\nSubject: Automatic reply: Hi\n\nAnn no longer works here.",
    "a receipt": (
        "From: postmaster@x.example\nReturn-Path: <>\nSubject: Read: Hi\n"
        "Content-Type: multipart/report; boundary=b; report-type=disposition-notification\n\n"
        "--b\nContent-Type: text/plain\n\nYour message was read.\n\n"
        "--b\nContent-Type: message/disposition-notification\n\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\n\n--b--"
    ),
}


@pytest.mark.parametrize("kind", VACATIONS)
def test_automatic_reply_at_a_bounce_address_is_not_a_notice(kind):
    mail = VACATIONS[kind].encode()

    assert feedback_of(mail) == []
    assert InboundEmail.parse(mail).auto_reply_reason


PEOPLE = {
    "about a parcel": "Subject: Undelivered parcel 4711\n\nMy parcel could not be delivered. Who can help?",
    "about a bounce": "Subject: Re: Hi\n\n<bob@x.example>: host mx said: 550 5.1.1 User unknown\n\nWhat now?",
    "about an error": "Subject: Error 550\n\nYour page says: delivery failed, invalid recipient bob@x.example",
}


@pytest.mark.parametrize("topic", PEOPLE)
def test_person_who_writes_about_a_failure_is_a_person(topic):
    mail = f"From: Ann <ann@x.example>\nReturn-Path: <ann@x.example>\nTo: reply@acme.example\n{PEOPLE[topic]}".encode()
    email = InboundEmail.parse(mail, envelope_sender="ann@x.example")

    assert dsn.read_feedback(email, at=AT, at_bounce_address=False) is None
    assert not email.auto_reply_reason


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ("Original-Recipient: rfc822;ann@x.example\nFinal-Recipient: rfc822;old@gmail.example", "old@gmail.example"),
        ("Original-Recipient: rfc822;ann@x.example\nFinal-Recipient: rfc822;ann@gmail.example", "ann@gmail.example"),
        ("Original-Recipient: rfc822;ann@x.example\nFinal-Recipient: rfc822;ann@imap.x.example", "ann@x.example"),
        ("Original-Recipient: rfc822;ann@x.example\nFinal-Recipient: rfc822;ann@daemon", "ann@x.example"),
        ("Original-Recipient: rfc822;ann@x.example\nFinal-Recipient: X-LOCAL;ann", "ann@x.example"),
        ("Final-Recipient: RFC822; <ann@x.example> (Ann)", "ann@x.example"),
        ("Final-Recipient: utf-8;ann@b\\x{FC}cher.example", "ann@bücher.example"),
        ("X-Actual-Recipient: rfc822; ann@x.example", "ann@x.example"),
    ],
)
def test_address_that_failed_is_the_last_one_outside_of_the_server(fields, address):
    mail = (
        "From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; boundary=b\n\n--b\n"
        "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n"
        f"{fields}\nAction: failed\nStatus: 5.1.1\n\n--b--\n"
    )

    assert [item.address for item in feedback_of(mail.encode())] == [address]


@pytest.mark.parametrize(
    "piece",
    ["to   ", "to a@b.example ", "<", "550 ", "could not ", "user ", "a@", "Final-Recipient: ", "=", "<!--", "- "],
)
def test_hostile_notice_is_read_within_seconds(piece):
    lines = f"{(piece * 1_000)[:990]}x a@b.example\n" * 3_000
    began = process_time()

    for content_type in ("text/plain", "text/html", "message/delivery-status"):
        feedback_of(f"From: MAILER-DAEMON@x.example\nContent-Type: {content_type}\n\n{lines}".encode())

    assert process_time() - began < 15


FORWARDED = {
    "to an address that is hidden": "  hidden address\n    (generated from ann@x.example)\n    550 User unknown",
    "to an address that is named": "  old@gmail.example\n    (generated from ann@x.example)\n    550 User unknown",
    "by Sendmail": "<old@gmail.example>\n    (reason: 550 User unknown)\n    (expanded from: <ann@x.example>)",
}


@pytest.mark.parametrize("how", FORWARDED)
def test_address_that_only_forwards_is_not_hard(how):
    text = (
        "From: MAILER-DAEMON@mx.example\nSubject: Mail delivery failed: returning message to sender\n\n"
        f"A message that you sent could not be delivered. The following address(es) failed:\n\n{FORWARDED[how]}\n"
    )

    found = feedback_of(text.encode())

    assert [item.address for item in found if item.type == HARD and item.address != "old@gmail.example"] == []


def test_advice_is_not_the_reason():
    text = (
        "From: MAILER-DAEMON@mx.example\nSubject: Returned mail\n\nYour message to ann@x.example was returned.\n\n"
        "The address may be invalid, or the user unknown.\nPlease check whether the mailbox does not exist.\n"
    )

    assert [str(item.type) for item in feedback_of(text.encode())] == ["bounced"]


def test_label_of_an_address_is_not_the_reason():
    text = (
        "From: MAILER-DAEMON@mx.example\nSubject: Undeliverable Mail\n\nUndeliverable Address: ann@x.example\n\n"
        "Reason: The email has been returned because the recipient is over disk quota.\n"
    )

    assert [str(item.type) for item in feedback_of(text.encode())] == ["bounced"]


def test_every_recipient_of_a_notice_has_its_own_reason():
    text = (
        "From: MAILER-DAEMON@mx.example\nSubject: failure notice\n\nI wasn't able to deliver your message.\n\n"
        "<ann@x.example>:\nmailbox is full (#5.2.2)\n\n<bob@x.example>:\nno mailbox here by that name (#5.1.1)\n"
    )

    found = {item.address: str(item.type) for item in feedback_of(text.encode())}

    assert found == {"ann@x.example": "bounced", "bob@x.example": "no_mailbox"}
