"""What a sender's domain publishes for email: SPF, DKIM, DMARC and its alignment, MX, reverse DNS and TLS.

Gmail, Yahoo and Outlook.com reject the emails of large senders without SPF, DKIM and DMARC. A lookup that the DNS does
not answer says nothing about the domain, so it never counts as missing. All lookups of a domain together have a limit.
"""

import base64
import binascii
import ipaddress
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import dns.exception
import dns.resolver
import dns.reversename
from checkdmarc import dmarc, spf, utils
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from django.conf import settings

from messaging.models.sending_domain import Verdict

# In seconds: of one lookup, and of all lookups of a domain.
LOOKUP_TIMEOUT, TIME_LIMIT = 2.0, 10.0
MIN_KEY_BITS, GOOD_KEY_BITS = 1024, 2048
NO_ANSWER = "The DNS did not answer, so this could not be checked."
# The SPF mechanism that each provider asks its customers to publish.
PROVIDER_SPF: dict[str, str] = {
    "amazon_ses": "include:amazonses.com",
    "mailgun": "include:mailgun.org",
    "mailjet": "include:spf.mailjet.com",
    "mandrill": "include:spf.mandrillapp.com",
    "postmark": "include:spf.mtasv.net",
    "sendgrid": "include:sendgrid.net",
    "sparkpost": "include:sparkpostmail.com",
}
LOOKUP_ERRORS = (dns.exception.DNSException, utils.DNSException, OSError, ValueError)


class Resolver(dns.resolver.Resolver):
    """A resolver that counts the lookups without an answer, and answers none after the time limit."""

    def __init__(self) -> None:
        super().__init__(configure=settings.DNS_SERVER is None)
        if settings.DNS_SERVER is not None:
            address, self.port = settings.DNS_SERVER
            self.nameservers = [address]
        # Several tries for a lost packet.
        self.timeout, self.lifetime = LOOKUP_TIMEOUT / 2, LOOKUP_TIMEOUT
        self.ends_at = time.monotonic() + TIME_LIMIT
        self.unanswered = 0

    def resolve(self, *args: Any, **options: Any) -> dns.resolver.Answer:
        left = self.ends_at - time.monotonic()
        try:
            if left <= 0:
                raise dns.resolver.LifetimeTimeout(timeout=TIME_LIMIT, errors=[])
            return super().resolve(*args, **{**options, "lifetime": min(left, LOOKUP_TIMEOUT)})
        except (dns.exception.Timeout, dns.resolver.NoNameservers, OSError):
            self.unanswered += 1
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check, and the DNS records to publish: name, type and value."""

    check: str
    verdict: Verdict
    text: str
    publish: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(slots=True)
class DomainCheck:
    """The checks of one domain."""

    domain: str
    selector: str
    resolver: Resolver
    spf: Finding | None = None
    dkim: Finding | None = None
    # The tags of a valid DMARC record.
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        """The email provider's name as django-anymail has it; "" if emails go to a mail server."""
        parts = str(settings.EMAIL_BACKEND).split(".")
        return parts[2] if parts[:2] == ["anymail", "backends"] else ""

    @property
    def return_path(self) -> str:
        """The domain of the envelope's sender, of which receivers check SPF; "" if the provider chooses it."""
        return "" if self.provider else settings.BOUNCE_DOMAIN or self.domain

    def check_mx(self) -> Finding:
        """Check that the domain exists and accepts replies."""
        found = utils.get_mx_record_set(self.domain, resolver=self.resolver)
        if found["null_mx"]:
            text = f"{self.domain} says that it accepts no email (a null MX record), so servers refuse it as a sender."
            return Finding(check="MX", verdict=Verdict.REJECTED, text=text, publish=[self.mx_record])
        if found["hosts"]:
            hosts = ", ".join(host["hostname"] for host in found["hosts"])
            return Finding(check="MX", verdict=Verdict.FINE, text=f"Replies go to {hosts}.")
        has_address = bool(utils.get_a_records(self.domain, resolver=self.resolver))
        text = f"{self.domain} has no MX record{'' if has_address else ' and no address'}, so replies may not arrive."
        verdict = Verdict.WARNING if has_address else Verdict.REJECTED
        return Finding(check="MX", verdict=verdict, text=text, publish=[self.mx_record])

    @property
    def mx_record(self) -> tuple[str, str, str]:
        return (self.domain, "MX", "10 <the mail server that receives replies>.")

    def check_spf(self) -> Finding:
        """Check the SPF record of the return path."""
        domain = self.return_path or self.domain
        found = spf.check_spf(domain, resolver=self.resolver)
        publish = [(domain, "TXT", f"v=spf1 {self.spf_mechanism} ~all")]
        # A provider's return path has its own record.
        bad = Verdict.WARNING if self.provider else Verdict.REJECTED
        if not found.get("record"):
            text = f"{domain} publishes several SPF records." if "multiple" in str(found["error"]) else ""
            text = text or f"{domain} publishes no SPF record."
            return Finding(check="SPF", verdict=bad, text=text, publish=publish)
        if not found["valid"]:
            text = f"The SPF record of {domain} is invalid: {str(found['error']).rstrip('.')}."
            return Finding(check="SPF", verdict=bad, text=text, publish=publish)
        if found["parsed"]["all"] == "pass":
            text = f"The SPF record of {domain} ends with +all, so it allows everyone to send."
            return Finding(check="SPF", verdict=Verdict.WARNING, text=text, publish=publish)
        return Finding(check="SPF", verdict=Verdict.FINE, text=f"{domain}: {found['record']}")

    @property
    def spf_mechanism(self) -> str:
        """The mechanism that allows our mail server or provider to send."""
        if self.provider:
            return PROVIDER_SPF.get(self.provider, "include:<the domain that your provider names>")
        return f"a:{settings.EMAIL_HOST}" if "." in settings.EMAIL_HOST.strip("0123456789.") else "ip4:<its address>"

    def check_dkim(self) -> Finding:
        """Check the key of the selector with which the mail server signs."""
        if not self.selector:
            text = "Enter the selector with which your mail server signs, so that its key can be checked."
            return Finding(check="DKIM", verdict=Verdict.WARNING, text=text)
        name = f"{self.selector}._domainkey.{self.domain}"
        publish = [(name, "TXT", "v=DKIM1; k=rsa; p=<the public key of your mail server or provider>")]
        try:
            records = utils.query_dns(name, "TXT", resolver=self.resolver)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            records = []
        if not records:
            text = f"There is no DKIM key at {name}."
            return Finding(check="DKIM", verdict=Verdict.REJECTED, text=text, publish=publish)
        problem, bits = key_problem(records[0])
        if problem:
            text = f"The DKIM key at {name} {problem}"
            return Finding(check="DKIM", verdict=Verdict.REJECTED, text=text, publish=publish)
        if bits and bits < GOOD_KEY_BITS:
            text = f"The DKIM key at {name} has {bits} bits; use {GOOD_KEY_BITS}."
            return Finding(check="DKIM", verdict=Verdict.WARNING, text=text, publish=publish)
        return Finding(check="DKIM", verdict=Verdict.FINE, text=f"The key at {name} is valid.")

    def check_dmarc(self) -> Finding:
        """Check the DMARC record of the domain or of the domain above it."""
        found = dmarc.check_dmarc(self.domain, resolver=self.resolver)
        publish = [(f"_dmarc.{self.domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:dmarc@{self.domain}")]
        if found["valid"]:
            self.policy = {tag: value["value"] for tag, value in found["tags"].items()}
            text = f"{found['location']}: policy {self.policy['p']}."
            return Finding(check="DMARC", verdict=Verdict.FINE, text=text)
        if not found.get("record"):
            many = "multiple" in found["error"].lower()
            text = f"{self.domain} publishes {'several DMARC records' if many else 'no DMARC record'}."
        else:
            text = f"The DMARC record of {self.domain} is invalid: {found['error'].rstrip('.')}."
        return Finding(check="DMARC", verdict=Verdict.REJECTED, text=text, publish=publish)

    def check_alignment(self) -> Finding:
        """Check that SPF or DKIM counts for the From address: DMARC passes by the one that is aligned with it."""
        known = (Verdict.FINE, Verdict.WARNING)
        has_spf = self.spf is not None and self.spf.verdict in known
        if has_spf and self.return_path and self.is_aligned(self.return_path):
            text = f"The return path {self.return_path} belongs to {self.domain}, so SPF counts for the From address."
            return Finding(check="Alignment", verdict=Verdict.FINE, text=text)
        if self.selector and self.dkim is not None and self.dkim.verdict in known:
            text = f"A signature by {self.domain} counts for the From address."
            return Finding(check="Alignment", verdict=Verdict.FINE, text=text)
        if Verdict.UNANSWERED in {found.verdict for found in (self.spf, self.dkim) if found}:
            return Finding(check="Alignment", verdict=Verdict.UNANSWERED, text=NO_ANSWER)
        path = f"the return path is of {self.return_path}" if self.return_path else "your provider sets the return path"
        if self.return_path and self.is_aligned(self.return_path):
            path = "the SPF record is missing or invalid"
        if not self.selector:
            text = f"SPF does not count for the From address: {path}. DMARC passes only with a DKIM signature."
            return Finding(check="Alignment", verdict=Verdict.WARNING, text=text)
        text = f"Neither SPF nor DKIM counts for the From address: {path}, and there is no valid DKIM key."
        return Finding(check="Alignment", verdict=Verdict.REJECTED, text=text)

    def is_aligned(self, other: str) -> bool:
        """Whether a domain of SPF counts for the From address: the same organisation, or the same name if strict."""
        if self.policy.get("aspf") == "s":
            return other == self.domain
        return utils.get_base_domain(other) == utils.get_base_domain(self.domain)

    def check_reverse_dns(self) -> Finding:
        """Check that the addresses of the mail server have names that lead back to them."""
        if self.provider:
            text = "Your provider sends from its own servers."
            return Finding(check="Reverse DNS", verdict=Verdict.UNKNOWN, text=text)
        host = settings.EMAIL_HOST
        public = [address for address in self.addresses_of(host) if ipaddress.ip_address(address).is_global]
        if not public:
            text = f"{host} has no public address. Check the PTR record of the address from which it sends."
            return Finding(check="Reverse DNS", verdict=Verdict.UNKNOWN, text=text)
        for address in public:
            names = utils.get_reverse_dns(address, resolver=self.resolver)
            if any(address in self.addresses_of(name) for name in names):
                continue
            back = f"has the name {names[0]}, which does not lead back to it" if names else "has no name (PTR record)"
            pointer = (str(dns.reversename.from_address(address)), "PTR", f"{host}.")
            text = f"The address {address} of {host} {back}."
            return Finding(check="Reverse DNS", verdict=Verdict.WARNING, text=text, publish=[pointer])
        return Finding(check="Reverse DNS", verdict=Verdict.FINE, text=f"Names lead back to {', '.join(public)}.")

    def addresses_of(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            return utils.get_a_records(host, resolver=self.resolver)
        except utils.DNSExceptionNXDOMAIN:
            return []

    def check_tls(self) -> Finding:
        """Check that the connection to the mail server is encrypted, by the settings."""
        host = "the provider" if self.provider else settings.EMAIL_HOST
        if self.provider or settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL:
            return Finding(check="TLS", verdict=Verdict.FINE, text=f"Emails go to {host} over an encrypted connection.")
        if host in ("localhost", "127.0.0.1", "::1"):
            text = "The mail server is on this machine. Check that it encrypts when it sends."
            return Finding(check="TLS", verdict=Verdict.UNKNOWN, text=text)
        text = f"Emails go to {host} unencrypted. Set EMAIL_URL to smtp+tls://… or smtp+ssl://…."
        return Finding(check="TLS", verdict=Verdict.WARNING, text=text)


CHECKS: dict[str, Callable[[DomainCheck], Finding]] = {
    "MX": DomainCheck.check_mx,
    "SPF": DomainCheck.check_spf,
    "DKIM": DomainCheck.check_dkim,
    "DMARC": DomainCheck.check_dmarc,
    "Alignment": DomainCheck.check_alignment,
    "Reverse DNS": DomainCheck.check_reverse_dns,
    "TLS": DomainCheck.check_tls,
}


def key_problem(record: str) -> tuple[str, int]:
    """Return what is wrong with a DKIM record, or "", and the number of bits of an RSA key."""
    tags = {
        name.strip(): value.strip() for name, sign, value in (part.partition("=") for part in record.split(";")) if sign
    }
    given = "".join(tags.get("p", "").split())
    if "p" in tags and not given:
        return "is revoked: its p= is empty.", 0
    try:
        key = base64.b64decode(given, validate=True)
        if tags.get("k", "rsa") == "ed25519":
            return ("" if len(key) == 32 else "is not a valid Ed25519 key."), 0
        loaded = load_der_public_key(key)
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        return "is not a valid key.", 0
    if not isinstance(loaded, RSAPublicKey):
        return "is not an RSA key.", 0
    if loaded.key_size < MIN_KEY_BITS:
        return f"has {loaded.key_size} bits, and providers ignore keys below {MIN_KEY_BITS}.", loaded.key_size
    return "", loaded.key_size


def check_domain(domain: str, *, selector: str) -> list[dict[str, Any]]:
    """Run all checks of a domain and return their findings as they are stored."""
    # A record that was just published counts.
    utils.DNS_CACHE.clear()
    try:
        check = DomainCheck(domain, selector, Resolver())
    except dns.resolver.NoResolverConfiguration:
        return [asdict(Finding(check=name, verdict=Verdict.UNANSWERED, text=NO_ANSWER)) for name in CHECKS]
    found = []
    for name in CHECKS:
        finding = run_check(check, name)
        if name in ("SPF", "DKIM"):
            setattr(check, name.lower(), finding)
        found.append(asdict(finding))
    return found


def run_check(check: DomainCheck, name: str) -> Finding:
    """Run one check. If something is wrong and a lookup had no answer, the check could not be made."""
    before = check.resolver.unanswered
    try:
        finding = CHECKS[name](check)
    except utils.DNSExceptionNXDOMAIN:
        return Finding(check=name, verdict=Verdict.REJECTED, text=f"The domain {check.domain} does not exist.")
    except LOOKUP_ERRORS:
        return Finding(check=name, verdict=Verdict.UNANSWERED, text=NO_ANSWER)
    is_bad = finding.verdict in (Verdict.REJECTED, Verdict.WARNING, Verdict.UNKNOWN)
    if is_bad and check.resolver.unanswered > before:
        return Finding(check=name, verdict=Verdict.UNANSWERED, text=NO_ANSWER)
    return finding
