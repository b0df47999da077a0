"""Emails through a provider's API, over real sockets, whatever the provider does."""

import socket
from dataclasses import replace

import pytest

from delivery.channels.base import ChannelDown, ConnectionRefused, NoSuchMailbox, Rejected, SenderRefused, Unavailable
from delivery.channels.email import Email
from tests.delivery.channels.test_email import WELCOME, NobodyKnows, outcome
from tests.support.http_provider import PROVIDER_ID, Act, Provider, taken

INACTIVE = {
    "ErrorCode": 406,
    "Message": "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses:"
    " ada@example.com. Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual"
    " suppression.",
}
NOT_AN_ADDRESS = {"ErrorCode": 300, "Message": "Error parsing 'To': Illegal email address 'ada@example.com'."}
NOT_OUR_SENDER = {"ErrorCode": 400, "Message": "The 'From' address you supplied is not a Sender Signature."}


@pytest.fixture
def provider(settings):
    """Start a provider with scripted answers, set in the settings."""
    started = []

    def start(*answers) -> Provider:
        started.append(Provider(*answers))
        settings.ANYMAIL = {**settings.ANYMAIL, "POSTMARK_API_URL": started[-1].url}
        return started[-1]

    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "secret", "REQUESTS_TIMEOUT": 0.3}
    yield start
    for each in started:
        each.close()


def test_email_arrives_as_written_with_its_id_for_the_provider(provider, channel):
    api = provider()

    assert channel.send(WELCOME) == PROVIDER_ID

    (mail,), (request,) = api.mails, api.requests
    headers = {header["Name"]: header["Value"] for header in mail["Headers"]}
    assert (mail["From"], mail["To"], mail["ReplyTo"]) == (
        "Support <support@acme.example>",
        "ada@example.com",
        "reply@acme.example",
    )
    assert (mail["Subject"], mail["TextBody"], mail["HtmlBody"]) == ("Welcome", "Hello Ada", "<p>Hello Ada</p>")
    assert headers["Message-ID"] == "<1.abc@acme.example>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Metadata"] == {"outbound_copy": "<1.abc@acme.example>"}
    assert request["X-Postmark-Server-Token"] == "secret"
    assert request["Idempotency-Key"] == "1.abc@acme.example"


def test_each_email_has_its_own_idempotency_key_on_one_connection(provider, channel):
    api = provider()

    channel.send(WELCOME)
    channel.send(replace(WELCOME, message_id="<2.def@acme.example>"))

    assert [request["Idempotency-Key"] for request in api.requests] == ["1.abc@acme.example", "2.def@acme.example"]


@pytest.mark.parametrize(
    ("answer", "meaning", "words"),
    [
        (taken, str, PROVIDER_ID),
        # Permanent refusals.
        ((422, INACTIVE), Rejected, "marked as inactive"),
        ((422, NOT_AN_ADDRESS), NoSuchMailbox, "Illegal email address"),
        ((400, {"ErrorCode": 402, "Message": "Bad JSON"}), Rejected, "400"),
        ((413, "too large"), Rejected, "413 too large"),
        # Temporary refusals.
        ((500, {"Message": "Internal error"}), Unavailable, "500"),
        ((408, "too slow"), Unavailable, "408 too slow"),
        # Nothing can go at all.
        ((429, "slow down"), ConnectionRefused, "429 slow down"),
        ((503, "back soon"), ChannelDown, "503 back soon"),
        ((401, {"ErrorCode": 10, "Message": "No such token"}), ChannelDown, "No such token"),
        ((402, "pay first"), ChannelDown, "402 pay first"),
        # Nothing of this sender can go.
        ((422, NOT_OUR_SENDER), SenderRefused, "not a Sender Signature"),
        ((403, "The acme.com domain is not verified."), SenderRefused, "domain is not verified"),
        ((400, "Sender address is not verified"), SenderRefused, "is not verified"),
        ((400, "The recipient's domain does not exist"), Rejected, "does not exist"),
        # Uncertain: the request left, and the answer is not the provider's.
        ((502, "bad gateway"), NobodyKnows, "502"),
        ((504, "gateway timed out"), NobodyKnows, "504"),
        # The provider knows this key, so it may have accepted the email before.
        ((409, "this idempotency key was used with other content"), NobodyKnows, "409"),
        ((200, "<html>Welcome to the hotel's network</html>"), NobodyKnows, "Invalid JSON"),
        ((200, {"Message": "OK"}), NobodyKnows, "API"),
        (Act.HANG, NobodyKnows, "timed out"),
        (Act.DROP, NobodyKnows, ""),
    ],
)
def test_answers_of_a_provider_are_classified(provider, channel, answer, meaning, words):
    api = provider(answer)

    kind, said = outcome(channel)

    assert (kind, words in said) == (meaning, True), said
    assert "\n" not in said or kind is NobodyKnows
    assert len(api.mails) == 1


def test_unreachable_provider_accepted_nothing(provider, channel, settings):
    with socket.socket() as taken_by_nobody:
        taken_by_nobody.bind(("127.0.0.1", 0))
        settings.ANYMAIL = {
            **settings.ANYMAIL,
            "POSTMARK_API_URL": f"http://127.0.0.1:{taken_by_nobody.getsockname()[1]}/",
        }

        kind, said = outcome(channel)

    assert kind is ConnectionRefused
    assert "cannot be reached" in said


def test_unresolvable_provider_accepted_nothing(channel, settings):
    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    settings.ANYMAIL = {"POSTMARK_SERVER_TOKEN": "secret", "POSTMARK_API_URL": "http://nowhere.invalid/"}

    assert outcome(channel)[0] is ConnectionRefused


def test_a_provider_without_its_key_is_refused(channel, settings):
    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    settings.ANYMAIL = {}

    kind, said = outcome(channel)

    assert kind is ConnectionRefused
    assert "POSTMARK_SERVER_TOKEN" in said


def test_one_bad_recipient_never_stops_the_next(provider, channel):
    provider((422, NOT_AN_ADDRESS), taken)

    assert outcome(channel)[0] is NoSuchMailbox
    assert outcome(channel) == (str, PROVIDER_ID)


def test_a_provider_that_twice_gave_no_answer_is_given_a_rest(provider, channel):
    api = provider(Act.DROP)

    kinds = [outcome(channel)[0] for _ in range(3)]

    assert kinds == [NobodyKnows, NobodyKnows, ChannelDown]
    assert len(api.mails) == 2


def test_provider_that_returns_no_metadata_gets_none(channel, settings):
    from anymail.backends.postal import EmailBackend

    from delivery.channels import esp as esp_channel
    from delivery.channels.email import mail_of

    mail = mail_of(WELCOME)
    esp_channel.add_provider_ids(mail, EmailBackend(api_url="http://127.0.0.1/", api_key="k"))

    assert not hasattr(mail, "metadata")


def test_the_channel_closes_cleanly(provider):
    provider()
    email = Email()
    email.send(WELCOME)

    email.close()
    email.close()

    assert email.connection is None
