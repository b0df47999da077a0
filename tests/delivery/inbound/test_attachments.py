"""Attachments of replies: stored under their own names, displayed only if they are images, and named if refused."""

import json
from datetime import timedelta
from email.message import EmailMessage

import pytest
from django.core.files.storage import default_storage
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.models import Integration, Workspace
from delivery import reply_addresses
from delivery.conversations import attachments
from delivery.customers import erase
from delivery.inbound import router
from delivery.inbound.router import Outcome
from delivery.models import Conversation, ConversationPart, DeliveryRecord, PartType, Status
from tests.delivery.api.messenger.test_ping import PNG, Browser
from tests.factories import CustomerFactory, MessageFactory
from tests.support.inbound_emails import parse_email, reply_sample
from tests.support.records import mark_records_sent

PDF = b"%PDF-1.7\n%%EOF\n"
HTML = b"<!doctype html><script>alert(document.domain)</script>"


@pytest.fixture(autouse=True)
def inbound(settings, tmp_path) -> None:
    settings.INBOUND_DOMAIN = "reply.acme.example"
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def record(db, at) -> DeliveryRecord:
    """An email that Ann has in her inbox."""
    CustomerFactory(user_id="ann", name="Ann", email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at).records.get()
    one = DeliveryRecord.objects.filter(pk=record.pk)
    one.update(status=Status.SENDING, claim="00000000-0000-0000-0000-000000000001", leased_until=at, address=None)
    mark_records_sent(one, at=at)
    record.refresh_from_db()
    return record


@pytest.fixture
def receive(at):
    def receive(mail: EmailMessage | bytes) -> Outcome:
        return router.receive(parse_email(mail), at=at + timedelta(hours=1))

    return receive


@pytest.fixture
def engineer(django_user_model) -> APIClient:
    """An API client with a token."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='tests')[1]}")
    return client


def reply(record: DeliveryRecord, *files: tuple[str, bytes, str], body: str = "Here it is.") -> EmailMessage:
    """A reply with these files: name, content, type."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "Ann <ann@x.example>", reply_addresses.reply_address(record)
    mail["Message-ID"], mail["Subject"] = "<1@x.example>", "Re: Hi"
    mail.set_content(body)
    for name, content, kind in files:
        maintype, subtype = kind.split("/")
        mail.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    return mail


def attached() -> list[dict]:
    return ConversationPart.objects.get(part_type=PartType.COMMENT).attachments


def note_texts() -> list[str]:
    return list(ConversationPart.objects.filter(part_type=PartType.NOTE).values_list("body", flat=True))


def fetch(client, settings, attachment: dict):
    return client.get(attachment["url"].removeprefix(settings.PUBLIC_URL))


def on_disk(root) -> list[bytes]:
    return sorted(path.read_bytes() for path in root.rglob("*") if path.is_file())


# Stored


def test_file_is_stored_under_its_own_name_and_served_as_a_download(record, receive, client, settings):
    receive(reply(record, ("Vertrag – Entwürfe für März.pdf", PDF, "application/pdf")))

    (file,) = attached()
    assert (
        file.items()
        >= {
            "name": "Vertrag – Entwürfe für März.pdf",
            "content_type": "application/pdf",
            "filesize": len(PDF),
            "width": None,
        }.items()
    )
    answer = fetch(client, settings, file)
    assert b"".join(answer.streaming_content) == PDF
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment; filename*=utf-8''Vertrag%20%E2%80%93%20Entw%C3%BCrfe")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    assert note_texts() == []


def test_file_from_a_real_mail_program_is_stored(record, receive, client, settings):
    receive(reply_sample(record, "outlook"))

    contract = attached()[1]
    assert contract["name"] == "Vertrags-entwurf – Acme.pdf"
    assert b"".join(fetch(client, settings, contract).streaming_content).startswith(b"%PDF-1.7")


def test_image_in_the_text_is_stored_and_displayed(record, receive, client, settings):
    mail = reply(record)
    mail.add_alternative('<p>Look: <img src="cid:shot@x"></p>', subtype="html")
    mail.get_payload()[1].add_related(PNG, "image", "png", cid="<shot@x>", filename="shot.png")

    receive(mail)

    (picture,) = attached()
    answer = fetch(client, settings, picture)
    assert (picture["name"], answer["Content-Type"], answer["X-Content-Type-Options"]) == (
        "shot.png",
        "image/png",
        "nosniff",
    )


def test_html_file_is_stored_but_never_displayed(record, receive, client, settings):
    receive(reply(record, ("report.html", HTML, "text/html")))

    (file,) = attached()
    answer = fetch(client, settings, file)
    assert (file["name"], answer["Content-Type"]) == ("report.html", "application/octet-stream")
    assert answer["Content-Disposition"] == 'attachment; filename="report.html"'


def test_file_with_a_false_image_type_is_served_as_binary(record, receive, client, settings):
    receive(reply(record, ("drawing.svg", b"<svg onload=alert(1)>", "image/svg+xml"), ("a.png", HTML, "image/png")))

    assert [file["content_type"] for file in attached()] == ["application/octet-stream"] * 2
    for file in attached():
        assert fetch(client, settings, file)["Content-Type"] == "application/octet-stream"


def test_image_too_large_to_display_is_stored_as_a_file(record, receive):
    receive(reply(record, ("huge.png", PNG + bytes(5 * 2**20), "image/png")))

    assert [(file["name"], file["content_type"]) for file in attached()] == [("huge.png", "application/octet-stream")]


def test_attached_email_is_stored_as_one_file(record, receive, client, settings):
    inner = EmailMessage()
    inner["Subject"], inner["From"] = "Your invoice: May/June", "billing@y.example"
    inner.set_content("You owe us nothing.")
    mail = reply(record)
    mail.add_attachment(inner)

    receive(mail)

    (file,) = attached()
    assert file["name"] == "Your invoice_ May_June.eml"
    assert b"You owe us nothing." in b"".join(fetch(client, settings, file).streaming_content)


def test_invitation_is_a_file_not_text(record, receive):
    mail = reply(record)
    mail.add_alternative("BEGIN:VCALENDAR", subtype="calendar")

    receive(mail)

    assert [(file["name"], file["content_type"]) for file in attached()] == [("text.ics", "text/calendar")]


def test_text_after_a_file_belongs_to_the_reply(record, receive):
    mail = reply(record, ("a.pdf", PDF, "application/pdf"), body="Above.")
    mail.attach(below := EmailMessage())
    below.set_content("Below.")

    receive(mail)

    said = ConversationPart.objects.get(part_type=PartType.COMMENT)
    assert "Above." in said.body
    assert "Below." in said.body
    assert len(said.attachments) == 1


# Refused and named


def test_empty_or_large_files_are_named_with_the_reason_and_the_rest_is_stored(record, receive, settings, tmp_path):
    settings.MAIL_FILE_LARGEST = 2**20
    files = [
        ("nothing.txt", b"", "text/plain"),
        ("film.mp4", bytes(2**20 + 1), "video/mp4"),
        ("fits.bin", bytes(2**20), "application/octet-stream"),
    ]

    receive(reply(record, *files))

    assert [file["name"] for file in attached()] == ["fits.bin"]
    assert on_disk(tmp_path) == [bytes(2**20)]
    (note,) = note_texts()
    assert "nothing.txt (text/plain): The file is empty." in note
    assert "film.mp4 (video/mp4): The file is larger than 1 MB." in note


def test_of_many_files_the_first_are_stored_and_the_others_named(record, receive, settings):
    settings.MAIL_FILES_MOST = 2

    receive(reply(record, *((f"{number}.pdf", PDF, "application/pdf") for number in range(4))))

    assert [file["name"] for file in attached()] == ["0.pdf", "1.pdf"]
    assert "2.pdf (application/pdf): At most 2 files per email are saved." in note_texts()[0]
    assert "3.pdf" in note_texts()[0]


# Displayed


def test_attachment_appears_in_the_inbox(record, receive, admin_client):
    receive(reply(record, ("contract.pdf", PDF, "application/pdf")))

    page = admin_client.get(f"/admin/delivery/conversation/{Conversation.objects.get().pk}/change/").content.decode()

    address = attached()[0]["url"].partition("/messenger/")[2]
    assert f'href="/messenger/{address}" download' in page
    assert "contract.pdf" in page


def test_attachment_appears_in_the_customers_thread_and_in_the_api(record, receive, engineer):
    receive(reply(record, ("contract.pdf", PDF, "application/pdf"), body=""))
    browser, pk = Browser(), Conversation.objects.get().pk
    browser.ping(user_id="ann", user_hash=identity_verification.user_hash(Workspace.current().identity_secret, "ann"))

    theirs = browser.ask(f"conversations/{pk}").json()["parts"][-1]["attachments"]
    ours = engineer.get(f"/api/conversations/{pk}").json()["conversation_parts"]["conversation_parts"][-1][
        "attachments"
    ]

    assert theirs == attached()
    assert ours == [{"type": "upload", **attached()[0]}]
    assert browser.list()[0]["preview"] == "File"


def test_erasure_deletes_the_files(record, receive, at, tmp_path, django_capture_on_commit_callbacks):
    receive(reply(record, ("Lebenslauf für Anna.pdf", PDF, "application/pdf"), ("me.png", PNG, "image/png")))
    assert on_disk(tmp_path) == sorted([PDF, PNG])

    with django_capture_on_commit_callbacks(execute=True):
        erase.erase(record.customer, at=at)

    assert on_disk(tmp_path) == []


# File names


@pytest.mark.parametrize(
    ("written", "called"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "file"),
        ("", "file"),
        ("a/", "a_"),
        ("C:\\boot.ini", "C__boot.ini"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("über\u0308 \t\r\nX.pdf", "über\u0308 X.pdf"),
        ("u\u0308ber.pdf", "über.pdf"),
        (" .hidden. ", "hidden"),
        ("契約書.pdf", "契約書.pdf"),
        ("x" * 300 + ".pdf", "x" * 96 + ".pdf"),
        ("\ud800<b>.pdf", "_b_.pdf"),
    ],
)
def test_file_name_is_made_safe(written, called):
    assert attachments.safe_file_name(written) == called


@given(st.text(max_size=200))
@example("a" * 99 + " .b c")
@example("<\u0338" + "x" * 120 + ". " + "y" * 15)
def test_safe_file_name_is_unchanged(name):
    once = attachments.safe_file_name(name)

    assert attachments.safe_file_name(once) == once
    assert 0 < len(once) <= attachments.MAX_NAME_LENGTH
    assert not set(once) & set('/\\<>:"|?*\r\n\0')


@pytest.mark.parametrize("name", ["..", "", "/", ".", "\u202e", "a" * 400, "..\\..\\x"])
def test_any_file_name_is_accepted(record, receive, name):
    assert receive(reply(record, (name, PDF, "application/pdf"))) is Outcome.REPLY

    (file,) = attached()
    assert default_storage.exists(attachments.file_path(file["url"].split("/")[-2], file["name"]))
    assert json.dumps(file)
