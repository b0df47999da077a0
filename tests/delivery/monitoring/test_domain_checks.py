"""Checks of senders' domains against a DNS server of the test: right, wrong in each way, and without an answer."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management import CommandError, call_command
from django.db import connection

from delivery.monitoring import domain_checks, domain_dns
from messaging.models import SendingDomain
from messaging.models.sending_domain import Verdict
from tests.factories import AT, SenderFactory
from tests.support.dns_server import DnsServer, quote_text, serving_domain

pytestmark = pytest.mark.django_db
DOMAIN = "acme-mail.dev"
SELECTOR = "s1"
KEY_NAME = f"{SELECTOR}._domainkey.{DOMAIN}"
PTR = "10.9.9.9.in-addr.arpa"
WEAK_KEY = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAOEC8q0Gi+cUQyx2Wbh/7mwkBMRXooB6u8lwHbh2e73C8edvHJmFnrGKAL2oWOFj6uHbP8U+PbUv"
    "/u5zJqrU08UCAwEAAQ=="
)
FINE, WARNING, REJECTED = Verdict.FINE, Verdict.WARNING, Verdict.REJECTED
UNANSWERED, UNKNOWN = Verdict.UNANSWERED, Verdict.UNKNOWN


@pytest.fixture
def name_server(settings, monkeypatch) -> Iterator[DnsServer]:
    monkeypatch.setattr(domain_dns, "LOOKUP_TIMEOUT", 0.3)
    monkeypatch.setattr(domain_dns, "TIME_LIMIT", 1.5)
    with serving_domain(DOMAIN, selector=SELECTOR, settings=settings) as server:
        yield server


def checked(*, selector: str = SELECTOR, domain: str = DOMAIN) -> dict[str, tuple[str, str]]:
    return {one["check"]: (one["verdict"], one["text"]) for one in domain_dns.check_domain(domain, selector=selector)}


def test_correct_domain_passes_every_check(name_server):
    found = domain_dns.check_domain(DOMAIN, selector=SELECTOR)

    assert [(one["check"], one["verdict"]) for one in found] == [(check, FINE) for check in domain_dns.CHECKS]
    assert not any(one["publish"] for one in found)


Change = Callable[[DnsServer], object]


def txt(name: str, *texts: str) -> Change:
    return lambda server: server.publish(name, "TXT", *map(quote_text, texts))


def without(*rows: tuple[str, str]) -> Change:
    return lambda server: [server.remove(*row) for row in rows]


# What is published instead; the check, its verdict and the text; and the record to publish.
FAILURES: list[tuple[Change, str, Verdict, str, str]] = [
    (without((DOMAIN, "TXT")), "SPF", REJECTED, f"{DOMAIN} publishes no SPF record.", f"v=spf1 a:smtp.{DOMAIN} ~all"),
    (txt(DOMAIN, "v=spf1 -all", "v=spf1 mx -all"), "SPF", REJECTED, "several SPF records", "v=spf1"),
    (txt(DOMAIN, "v=spf1 ip4:999.1.2.3 -all"), "SPF", REJECTED, f"The SPF record of {DOMAIN} is invalid", "v=spf1"),
    (txt(DOMAIN, "v=spf1 +all"), "SPF", WARNING, "it allows everyone to send", "v=spf1"),
    (without((KEY_NAME, "TXT")), "DKIM", REJECTED, f"There is no DKIM key at {KEY_NAME}.", "v=DKIM1; k=rsa; p="),
    (txt(KEY_NAME, "v=DKIM1; p="), "DKIM", REJECTED, "is revoked", "v=DKIM1"),
    (txt(KEY_NAME, "v=DKIM1; p=nonsense"), "DKIM", REJECTED, "is not a valid key", "v=DKIM1"),
    (txt(KEY_NAME, f"v=DKIM1; p={WEAK_KEY}"), "DKIM", REJECTED, "has 512 bits", "v=DKIM1"),
    (without((f"_dmarc.{DOMAIN}", "TXT")), "DMARC", REJECTED, "publishes no DMARC record", "v=DMARC1; p=none; rua="),
    (txt(f"_dmarc.{DOMAIN}", "v=DMARC1; p=none", "v=DMARC1; p=reject"), "DMARC", REJECTED, "several DMARC", "v=DMARC1"),
    (txt(f"_dmarc.{DOMAIN}", "v=DMARC1; p=perhaps"), "DMARC", REJECTED, "is invalid", "v=DMARC1"),
    (without((DOMAIN, "TXT"), (KEY_NAME, "TXT")), "Alignment", REJECTED, "Neither SPF nor DKIM counts", ""),
    (lambda server: server.publish(DOMAIN, "MX", "0 ."), "MX", REJECTED, "accepts no email", "10 <the mail server"),
    (without((DOMAIN, "MX")), "MX", WARNING, "has no MX record, so", "10 <the mail server"),
    (without((DOMAIN, "MX"), (DOMAIN, "A")), "MX", REJECTED, "no MX record and no address", "10 <the mail server"),
    (without((PTR, "PTR")), "Reverse DNS", WARNING, "9.9.9.10 of smtp.acme-mail.dev has no name", f"smtp.{DOMAIN}."),
    (lambda server: server.publish(PTR, "PTR", "mx.acme-mail.dev."), "Reverse DNS", WARNING, "not lead back", "smtp."),
]


def test_each_failure_is_found_with_what_to_publish(name_server, subtests):
    right = dict(name_server.records)
    for change, check, verdict, text, publish in FAILURES:
        with subtests.test(check=check, text=text):
            name_server.records = dict(right)
            change(name_server)

            (found,) = [one for one in domain_dns.check_domain(DOMAIN, selector=SELECTOR) if one["check"] == check]
            assert (found["verdict"], text in found["text"]) == (verdict, True), found
            assert publish in " ".join(value for _, _, value in found["publish"])
            assert bool(found["publish"]) == bool(publish)


def test_domain_that_does_not_exist_is_rejected(name_server):
    assert checked(domain="gone-mail.dev")["MX"] == (REJECTED, "The domain gone-mail.dev does not exist.")


def test_keys_are_judged_by_their_kind_and_size(name_server):
    small = rsa.generate_private_key(65_537, 1024)  # noqa: S505 - a key that warns
    weak = small.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name_server.publish(KEY_NAME, "TXT", quote_text(f"v=DKIM1; p={base64.b64encode(weak).decode()}"))
    assert checked()["DKIM"] == (WARNING, f"The DKIM key at {KEY_NAME} has 1024 bits; use 2048.")

    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    name_server.publish(KEY_NAME, "TXT", quote_text(f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"))
    assert checked()["DKIM"][0] == FINE


def test_alignment_follows_the_return_path_and_the_policy(name_server, settings):
    """A return path of the same organisation counts unless the policy is strict; otherwise DKIM has to."""
    settings.BOUNCE_DOMAIN = f"bounce.{DOMAIN}"
    name_server.publish(f"bounce.{DOMAIN}", "TXT", quote_text("v=spf1 ip4:9.9.9.10 -all"))
    assert checked(selector="")["Alignment"][0] == FINE
    name_server.publish(f"_dmarc.{DOMAIN}", "TXT", quote_text("v=DMARC1; p=none; aspf=s"))
    assert checked(selector="")["Alignment"][0] == WARNING
    assert checked()["Alignment"] == (FINE, f"A signature by {DOMAIN} counts for the From address.")

    settings.BOUNCE_DOMAIN = "bounce.else-mail.dev"
    name_server.publish("bounce.else-mail.dev", "TXT", quote_text("v=spf1 ip4:9.9.9.10 -all"))
    name_server.remove(KEY_NAME, "TXT")
    assert checked()["SPF"][0] == FINE
    assert checked()["Alignment"][0] == REJECTED


def test_without_a_selector_dkim_warns(name_server):
    found = checked(selector="")

    assert found["DKIM"][0] == WARNING
    assert REJECTED not in {verdict for verdict, _ in found.values()}


def test_provider_sets_the_return_path_and_encrypts(name_server, settings):
    settings.EMAIL_BACKEND = "anymail.backends.postmark.EmailBackend"
    name_server.remove(DOMAIN, "TXT")

    found = checked()

    assert (found["SPF"][0], found["Alignment"][0], found["TLS"][0]) == (WARNING, FINE, FINE)
    assert found["Reverse DNS"] == (UNKNOWN, "Your provider sends from its own servers.")


def test_unencrypted_connection_warns_unless_the_server_is_on_this_machine(name_server, settings):
    settings.EMAIL_USE_TLS = False
    assert checked()["TLS"][0] == WARNING
    settings.EMAIL_HOST = "127.0.0.1"
    assert (checked()["TLS"][0], checked()["Reverse DNS"][0]) == (UNKNOWN, UNKNOWN)


def test_dns_that_does_not_answer_warns_and_never_rejects(name_server):
    name_server.silent = {"*"}

    found = checked()

    assert {verdict for check, (verdict, _) in found.items() if check != "TLS"} == {UNANSWERED}
    domain = SendingDomain(name=DOMAIN, findings=domain_dns.check_domain(DOMAIN, selector=SELECTOR))
    assert (domain.launch_problem, "The DNS did not answer" in domain.launch_warning) == ("", True)


def test_one_name_without_an_answer_leaves_the_other_checks(name_server):
    name_server.silent = {f"_dmarc.{DOMAIN}", KEY_NAME}

    found = checked()

    assert [check for check, (verdict, _) in found.items() if verdict == UNANSWERED] == ["DKIM", "DMARC"]
    assert REJECTED not in {verdict for verdict, _ in found.values()}


def test_nobody_listens_at_the_dns_server(name_server):
    name_server.close()

    assert checked()["MX"][0] == UNANSWERED


def test_record_that_was_just_published_counts(name_server):
    record = name_server.records.pop((DOMAIN, "TXT"))
    assert checked()["SPF"][0] == REJECTED

    name_server.records[DOMAIN, "TXT"] = record

    assert checked()["SPF"][0] == FINE


def test_check_is_stored_with_its_time_and_repeated_after_a_day(name_server):
    sender = SenderFactory(email=f"ada@{DOMAIN.upper()}")

    domain_checks.check_sender(sender, at=AT)
    stored = SendingDomain.objects.get()
    assert (stored.name, stored.checked_at, stored.checking_until, len(stored.findings)) == (DOMAIN, AT, None, 7)
    name_server.asked.clear()
    domain_checks.check_sender(sender, at=AT + timedelta(hours=24))
    assert name_server.asked == []
    domain_checks.check_sender(sender, at=AT + timedelta(hours=26))
    assert name_server.asked


def test_daily_task_checks_each_domain_once_and_forgets_others(name_server):
    for address in (f"ada@{DOMAIN}", f"bob@{DOMAIN}", "cyd@shop-mail.dev", "dee@acme.example"):
        SenderFactory(email=address)
    SendingDomain.objects.create(name="former-mail.dev")
    turns = iter([True, False])

    assert not domain_checks.check_all(clock=lambda: AT, go_on=lambda: next(turns))
    assert list(SendingDomain.objects.values_list("name", "checked_at")) == [(DOMAIN, AT)]
    name_server.asked.clear()
    assert domain_checks.check_all(clock=lambda: AT, go_on=lambda: True)

    assert set(SendingDomain.objects.values_list("name", flat=True)) == {DOMAIN, "shop-mail.dev"}
    assert (DOMAIN, "MX") not in name_server.asked


@pytest.mark.django_db(transaction=True)
def test_two_processes_check_a_domain_once(name_server):
    done: list[bool] = []

    def check() -> None:
        done.append(domain_checks.check_domain(DOMAIN, at=AT))
        connection.close()

    name_server.silent = {DOMAIN}
    threads = [threading.Thread(target=check) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == [False, False, True]


def test_allowance_ends_when_a_check_finds_nothing_to_reject(name_server):
    SendingDomain.objects.create(name=DOMAIN, dkim_selector=SELECTOR, allowed_at=AT)
    name_server.silent = set()
    record = name_server.records.pop((f"_dmarc.{DOMAIN}", "TXT"))
    domain_checks.check_domain(DOMAIN, at=AT)
    assert SendingDomain.objects.get().allowed_at == AT

    name_server.silent = {DOMAIN}
    domain_checks.check_domain(DOMAIN, at=AT)
    assert SendingDomain.objects.get().allowed_at == AT

    name_server.silent = set()
    name_server.records[f"_dmarc.{DOMAIN}", "TXT"] = record
    domain_checks.check_domain(DOMAIN, at=AT)

    assert SendingDomain.objects.get().allowed_at is None


def test_findings_for_a_selector_that_was_replaced_meanwhile_are_not_stored(name_server, monkeypatch):
    def check(name: str, *, selector: str) -> list[dict[str, object]]:
        SendingDomain.objects.filter(pk=name).update(dkim_selector="s2")
        return [{"check": "DKIM", "verdict": REJECTED, "text": "", "publish": []}]

    monkeypatch.setattr(domain_dns, "check_domain", check)
    domain_checks.check_domain(DOMAIN, at=AT)

    domain = SendingDomain.objects.get()
    assert (domain.findings, domain.checked_at, domain.checking_until) == ([], None, None)


def run_command(*arguments: str) -> tuple[str, int]:
    out = io.StringIO()
    try:
        call_command("check_domain", *arguments, stdout=out)
    except SystemExit as ended:
        return out.getvalue(), int(str(ended.code))
    return out.getvalue(), 0


def test_command_reports_what_to_publish(name_server):
    SenderFactory(email=f"ada@{DOMAIN}")
    text, code = run_command(DOMAIN, "--selector", SELECTOR)
    assert (code, "DKIM: OK. The key at" in text) == (0, True)

    name_server.remove(f"_dmarc.{DOMAIN}", "TXT")
    text, code = run_command()
    assert code == 1
    assert f"DMARC: Rejected by providers. {DOMAIN} publishes no DMARC record." in text
    assert f"Publish: _dmarc.{DOMAIN} TXT v=DMARC1; p=none; rua=mailto:dmarc@{DOMAIN}" in text
    assert "DKIM: OK" in text

    assert run_command("acme.example") == (
        "acme.example is reserved for documentation and tests, so it is not checked.\n",
        0,
    )
    with pytest.raises(CommandError, match="not a DKIM selector"):
        call_command("check_domain", DOMAIN, "--selector", "a b")
    with pytest.raises(CommandError, match="Name the one domain"):
        call_command("check_domain", "--selector", "s1")
    with pytest.raises(CommandError, match="253 characters"):
        call_command("check_domain", "a" * 300 + ".dev")
