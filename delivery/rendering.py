"""Rendering: one customer's copy, the values of its variables put into a version (behaviour 3, `variables`)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import formataddr
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signing import Signer

from audiences.models import Company, ConfirmationMail, Customer
from delivery import process, reply_addresses, tokens
from delivery.channels.base import Envelope
from delivery.models import DeliveryRecord, Link
from delivery.reply_addresses import ReferentKind
from messaging import content
from messaging.models import Channel, Format, Message, MessageVersion, Sender

TARGETS = {
    Channel.EMAIL: content.RenderTarget.EMAIL,
    Channel.IN_APP: content.RenderTarget.FRAGMENT,
    Channel.PUSH: content.RenderTarget.TEXT,
}
RENDERING_CACHE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Copy:
    """A compiled version, the variables it uses, and the addresses that each copy has of its own."""

    compiled: content.Compiled
    names: frozenset[str]
    addresses: frozenset[str]
    version: int

    def render(self, filled: Mapping[str, object], *, record_id: int) -> content.Rendered:
        """Render the copy with stored values; ContentError if that is not possible."""
        if self.addresses:
            filled = {**filled, **{name: ADDRESSES[name](record_id, self.version) for name in self.addresses}}
        return self.compiled.render(filled)


def copy_of(version: MessageVersion, *, channel: str, tracked: bool = False) -> Copy:
    """Compile a version, once per process: a version that went out never changes. Previews are not tracked."""
    with process.renderings_lock:
        kept: Copy | None = process.renderings.get((version.pk, tracked))
        if kept is None:
            known = links_of(version) if tracked else None
            kept = compile_copy(version, channel=channel, layout=version.layout, known_links=known)
            process.renderings[version.pk, tracked] = kept
            if len(process.renderings) > RENDERING_CACHE_SIZE:
                process.renderings.popitem(last=False)
    return kept


def known_variables(version: MessageVersion) -> frozenset[str] | None:
    """Return the variables of a version that this process has compiled; None if it has not."""
    kept = process.renderings.get((version.pk, True)) or process.renderings.get((version.pk, False))
    return kept.names if kept else None


def links_of(version: MessageVersion) -> list[str]:
    """Return the stored link targets of a version, by number."""
    return list(Link.objects.filter(version=version).order_by("number").values_list("address", flat=True))


def store_links(copy: Copy) -> None:
    """Store the link targets of a version, once per process, before any copy leaves."""
    if copy.version in process.versions_with_stored_links or not copy.compiled.links:
        return
    links = (Link(version_id=copy.version, number=n, address=to) for n, to in enumerate(copy.compiled.links))
    Link.objects.bulk_create(links, ignore_conflicts=True)
    process.versions_with_stored_links.add(copy.version)


def compile_copy(
    version: MessageVersion, *, channel: str, layout: Mapping[str, str], known_links: list[str] | None = None
) -> Copy:
    """Compile a version with an email layout; our own links and images become absolute URLs.

    If `known_links` are given (those stored already, which keep their numbers), links lead through click tracking.
    """
    names = (
        content.variables_in(version.subject) | content.variables_in(version.body) | content.variables_in(version.link)
    )
    email_layout = content.build_email_layout(layout, unsubscribes=content.UNSUBSCRIBE_URL in names)
    made = content.compile_version(
        version.subject,
        absolute_image_urls(version.body),
        target=TARGETS[Channel(channel)],
        header=absolute_image_urls(email_layout.header),
        footer=email_layout.footer,
        colour=email_layout.colour,
        tracked=known_links is not None,
        known_links=known_links or (),
        link=version.link,
    )
    unsubscribes = content.UNSUBSCRIBE_URL in names or content.UNSUBSCRIBE_URL in email_layout.footer
    addresses = {content.UNSUBSCRIBE_URL} if unsubscribes else set()
    if known_links is not None:
        addresses |= {content.TRACKING_OPEN} | ({content.TRACKING_CLICK} if made.links else set())
    return Copy(made, names - {content.UNSUBSCRIBE_URL}, frozenset(addresses), version.pk)


def absolute_image_urls(body: str) -> str:
    """Make the URLs of our images absolute."""
    return body.replace('src="/', f'src="{settings.PUBLIC_URL}/')


def facts_of(customer: Customer | Mapping[str, Any], company: Company | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the facts that variables may use. Rows are models, or dictionaries of their columns."""
    return {**row_columns(customer), "company": row_columns(company) if company is not None else None}


def model_to_columns(row: Customer | Company) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


def row_columns(row: Customer | Company | Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns by name, with custom attributes under the name that texts use."""
    values = dict(row) if isinstance(row, Mapping) else model_to_columns(row)
    if "remote_created_at" in values:
        values["created_at"] = values["remote_created_at"]
    return {**values, "custom_attributes": values.get("attributes") or {}}


def variable_values(names: Collection[str], *, customer: Any, company: Any) -> dict[str, object]:
    """Return the current values of these variables."""
    return content.variable_values(names, facts_of(customer, company)) if names else {}


def render_sent_copy(record: DeliveryRecord) -> content.Rendered | None:
    """Return the copy as the customer saw it; None if nothing was sent yet."""
    if record.version is None:
        return None
    if record.forgotten_at is not None:
        raise content.ContentError("This copy's content has been deleted under the retention policy.")
    rendered = copy_of(record.version, channel=record.message.channel).render(record.variables, record_id=record.pk)
    # A chat is shown without a subject, also if one is stored with it.
    return replace(rendered, subject="") if record.message.format == Format.CHAT else rendered


def message_id(record_id: int) -> str:
    """Return the Message-ID of a record's email: the same at every attempt, and not guessable."""
    signature = Signer(salt="message-id").signature(str(record_id))[:16]
    return f"<{record_id}.{signature.replace('_', '-')}@{settings.MESSAGE_ID_DOMAIN}>"


def unsubscribe_url(record_id: int, _version: int = 0) -> str:
    """Return the unsubscribe URL of a record: opaque and without expiry (behaviour 7.5)."""
    return f"{settings.PUBLIC_URL}/{PATHS['unsubscribe']}{unsubscribe_token(record_id)}"


def confirmation_url(mail: ConfirmationMail) -> str:
    """Return the URL that confirms an address: opaque, with the moment from which it is valid (behaviour 4.30)."""
    token = tokens.make_token(mail.pk, int(mail.requested_at.timestamp()), purpose="confirm")
    return f"{settings.PUBLIC_URL}/{PATHS['confirm']}{token}"


# Used twice for each copy: in its text and in its headers.
@lru_cache(maxsize=16)
def unsubscribe_token(record_id: int) -> str:
    return tokens.make_token(record_id, purpose="unsubscribe")


# Used twice as well: for links and for the pixel.
@lru_cache(maxsize=16)
def tracking_token(record_id: int, version_id: int) -> str:
    return tokens.make_token(record_id, version_id, purpose="tracking")


def click_url(record_id: int, version_id: int) -> str:
    """Return the URL of click tracking; the number of the link follows it."""
    return f"{settings.PUBLIC_URL}/{PATHS['click']}{tracking_token(record_id, version_id)}/"


def open_url(record_id: int, version_id: int) -> str:
    return f"{settings.PUBLIC_URL}/{PATHS['open']}{tracking_token(record_id, version_id)}.gif"


# The paths in delivery.urls; reversing them for each copy took longer than building the email.
PATHS = {"unsubscribe": "m/unsubscribe/", "confirm": "m/confirm/", "click": "m/c/", "open": "m/o/"}
ADDRESSES: dict[str, Callable[[int, int], str]] = {
    content.UNSUBSCRIBE_URL: unsubscribe_url,
    content.TRACKING_CLICK: click_url,
    content.TRACKING_OPEN: open_url,
}


def unsubscribe_ways(record_id: int) -> list[str]:
    """Return the URLs of the List-Unsubscribe header: the link, and an address if emails come to Outbound."""
    address = reply_addresses.unsubscribe_address(record_id)
    return [unsubscribe_url(record_id), *([f"mailto:{address}?subject=unsubscribe"] if address else [])]


def envelope(
    message: Message, sender: Sender, rendered: content.Rendered, *, record_id: int, to: tuple[str, ...]
) -> Envelope:
    """Put a rendered copy into its envelope."""
    headers = {}
    reply_to, return_path = "", ""
    if message.channel == Channel.EMAIL:
        reply_to = reply_addresses.reply_address_of(ReferentKind.RECORD, record_id)
        return_path = reply_addresses.return_path(ReferentKind.RECORD, record_id)
    if message.channel == Channel.EMAIL and not message.to_customer_id:
        headers = {
            "List-Unsubscribe": ", ".join(f"<{way}>" for way in unsubscribe_ways(record_id)),
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            # Vacation responders stay silent. Bounces are wanted, so not "All" (MS-OXCMAIL 2.2.3.2.14).
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "OOF, AutoReply",
        }
    return Envelope(
        to=to,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        sender=formataddr((sender.name, sender.email)),
        reply_to=formataddr((sender.name, reply_to)) if reply_to else sender.reply_to or sender.email,
        return_path=return_path,
        message_id=message_id(record_id),
        headers=headers,
        link=rendered.link,
        token=tokens.make_token(record_id, purpose="push") if message.channel == Channel.PUSH else "",
    )
