"""Erasure: no personal data is left, in the customer's rows and in those of others."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from audiences.models import ConfirmationMail, Customer, Suppression
from delivery.conversations import attachments as conversation_attachments
from delivery.conversations import threads
from delivery.customers import erase
from delivery.models import Alarm, AlarmKind, AnswerMail, DeliveryRecord, Reason, Status
from delivery.sending import dispatcher
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def test_addresses_and_names_in_records_of_others_are_blanked(at):
    ann = CustomerFactory(email="home@x.example", name="Ann")
    CustomerFactory(email="home@x.example", name="Bob")
    MessageFactory(one_off=True, live=True, at=at)
    # The second copy waits a few seconds if it is claimed while the first one is being sent.
    for clock in (at, at + timedelta(seconds=10)):
        dispatcher.dispatch(clock=lambda now=clock: now, until=at + timedelta(minutes=1))
    hers, his = DeliveryRecord.objects.order_by("customer")
    assert (hers.address, his.reason, his.detail) == ("home@x.example", Reason.SAME_INBOX, "Ann")

    erase.erase(ann, at=at)

    hers.refresh_from_db()
    his.refresh_from_db()
    assert (hers.status, hers.address, his.status, his.detail) == (Status.SENT, None, Status.SKIPPED, "")


def test_files_of_conversations_are_deleted(at, settings, tmp_path, django_capture_on_commit_callbacks):
    settings.MEDIA_ROOT = tmp_path
    ann, bob = CustomerFactory(name="Ann"), CustomerFactory(name="Bob")

    def picture() -> list[dict]:
        upload = SimpleUploadedFile("me.png", PNG, content_type="image/png")
        return [conversation_attachments.store_image(upload, conversation_attachments.check_image(upload))]

    def paths(attachments: list[dict]) -> list[str]:
        return [conversation_attachments.FOLDER + entry["url"].rpartition("/")[2] for entry in attachments]

    opening, reply, of_bob = picture(), picture(), picture()
    linked = {"name": "x", "url": "https://elsewhere.example/messenger/images/x.png"}
    begun = threads.open_by_customer(ann, body="Hi", at=at, attachments=[*opening, linked])
    threads.reply_by_customer(begun, body="", at=at, attachments=reply)
    threads.open_by_customer(bob, body="Hi", at=at, attachments=of_bob)

    with django_capture_on_commit_callbacks(execute=True):
        erase.erase(ann, at=at)

    assert [default_storage.exists(path) for path in paths([*opening, *reply, *of_bob])] == [False, False, True]


def test_alarm_about_a_direct_message_is_blanked(at):
    ann = CustomerFactory(name="Ann")
    MessageFactory(title="Message to Ann", to_customer=ann, one_off=True, audience=None)
    theirs, others = (
        Alarm.objects.create(kind=kind, description=f"“{title}” is due since 4 May.", began_at=at, seen_at=at)
        for kind, title in ((AlarmKind.DUE, "Message to Ann"), (AlarmKind.TROUBLE, "Message to all"))
    )

    erase.erase(ann, at=at)

    theirs.refresh_from_db()
    others.refresh_from_db()
    assert (theirs.description, others.description) == ("Erased", "“Message to all” is due since 4 May.")


def test_suppressed_addresses_and_their_log_entries_name_nobody(at, admin_client, django_user_model):
    """Also a former address, to which emails went; not the address that another customer has."""
    ann = CustomerFactory(name="Ann", email="old@x.example")
    add = "/admin/audiences/suppression/add/"
    shared, teammate = CustomerFactory(email="shared@x.example").email, django_user_model.objects.create(username="t")
    for address in ("old@x.example", "answered@x.example", "new@x.example", shared):
        facts = {"address": address, "reason": "opt_out", "detail": f"phoned from {address}"}
        assert admin_client.post(add, facts).status_code == 302
    message = MessageFactory(live=True)
    for address in ("old@x.example", shared):
        DeliveryRecord.objects.create(
            message=message if address == shared else MessageFactory(live=True),
            customer=ann,
            matched_at=at,
            due_at=at,
            address=address,
        )
    threads.reply_by_teammate(threads.open_by_customer(ann, body="Hi", at=at), teammate=teammate, body="Hello", at=at)
    AnswerMail.objects.update(address="answered@x.example")
    Customer.objects.filter(pk=ann.pk).update(email="new@x.example")

    erase.erase(ann, at=at)

    assert set(Suppression.objects.active().values_list("address", "detail")) == {
        (None, ""),
        (shared, f"phoned from {shared}"),
    }
    logged = {(entry.object_repr, entry.change_message) for entry in LogEntry.objects.all()}
    assert {text for entry in logged for text in entry if "@" in text and shared not in text} == set()
    assert any(shared in text for entry in logged for text in entry)
    assert AnswerMail.objects.get().address == ""


def test_confirmations_of_own_addresses_are_blanked_and_those_of_shared_ones_stay(at):
    bea, eve = (CustomerFactory(lead=True, email=f"{name}@x.example", opted_in_at=at) for name in ("bea", "eve"))
    for address in ("old@x.example", "bea@x.example", "eve@x.example"):
        ConfirmationMail.objects.request(address, customer=bea, at=at)
    ConfirmationMail.objects.update(detail="550 no bea", confirmed_at=at)
    ConfirmationMail.objects.of_address("old@x.example").update(status="sent")

    erase.erase(bea, at=at)

    bea.refresh_from_db()
    assert bea.opted_in_at is None
    assert ConfirmationMail.objects.get(address="eve@x.example").customer == eve
    rows = set(ConfirmationMail.objects.values_list("address", "status", "detail", "confirmed_at"))
    assert rows == {(None, "sent", "", None), (None, "skipped", "", None), ("eve@x.example", "waiting", "", at)}
    assert not ConfirmationMail.objects.request("old@x.example", customer=eve, at=at)
