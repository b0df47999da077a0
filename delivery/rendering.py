"""One person's copy: the variables' values as of now, and the text they make with a version (behaviour 3, `filled`)."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import formataddr
from functools import lru_cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.signing import Signer

from audiences.models import Company, Customer
from delivery import reply_addresses, tokens
from delivery.channels.base import Envelope
from delivery.models import DeliveryRecord, Link
from delivery.reply_addresses import ReferentKind
from messaging import content
from messaging.models import Channel, Format, Message, MessageVersion, Sender

LAYOUTS = {
    Channel.EMAIL: content.Layout.EMAIL,
    Channel.IN_APP: content.Layout.FRAGMENT,
    Channel.PUSH: content.Layout.TEXT,
}
RENDERING_CACHE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Copy:
    """A version compiled, the variables it uses, and the addresses of ours that each copy has of its own."""

    compiled: content.Compiled
    names: frozenset[str]
    addresses: frozenset[str]
    version: int

    def render(self, filled: Mapping[str, object], *, record_id: int) -> content.Rendered:
        """The copy as it reads to the person of whom `filled` was true; ContentError where it cannot be filled in."""
        if self.addresses:
            filled = {**filled, **{name: ADDRESSES[name](record_id, self.version) for name in self.addresses}}
        return self.compiled.render(filled)


KEPT: OrderedDict[tuple[int, bool], Copy] = OrderedDict()
# The versions whose links this process knows to be written down.
LINKS_KEPT: set[int] = set()
KEEPING = Lock()


def copy_of(version: MessageVersion, *, channel: str, tracked: bool = False) -> Copy:
    """Compile a version, once in a process: one that went out never changes. Only what customers get is tracked."""
    with KEEPING:
        kept = KEPT.get((version.pk, tracked))
        if kept is None:
            known = links_of(version) if tracked else None
            kept = compile_copy(version, channel=channel, dress=version.dress, known_links=known)
            KEPT[version.pk, tracked] = kept
            if len(KEPT) > RENDERING_CACHE_SIZE:
                KEPT.popitem(last=False)
    return kept


def links_of(version: MessageVersion) -> list[str]:
    """Where the links of a version lead, by number, as far as they are written down."""
    return list(Link.objects.filter(version=version).order_by("number").values_list("address", flat=True))


def store_links(copy: Copy) -> None:
    """Write down where the links of a version lead: to be done before any copy leaves, and done once in a process."""
    if copy.version in LINKS_KEPT or not copy.compiled.links:
        return
    links = (Link(version_id=copy.version, number=n, address=to) for n, to in enumerate(copy.compiled.links))
    Link.objects.bulk_create(links, ignore_conflicts=True)
    LINKS_KEPT.add(copy.version)


def compile_copy(
    version: MessageVersion, *, channel: str, dress: Mapping[str, str], known_links: list[str] | None = None
) -> Copy:
    """Compile a version in a dress; what it links and shows of ours becomes an address that a mail can follow.

    Its links lead over us where `known_links` are given: those written down already, which keep their numbers.
    """
    names = content.variables(version.subject) | content.variables(version.body) | content.variables(version.link)
    worn = content.dress_of(dress, unsubscribes=content.UNSUBSCRIBE_URL in names)
    made = content.compile_version(
        version.subject,
        absolute_image_urls(version.body),
        layout=LAYOUTS[Channel(channel)],
        header=absolute_image_urls(worn.header),
        footer=worn.footer,
        colour=worn.colour,
        tracked=known_links is not None,
        known_links=known_links or (),
        link=version.link,
    )
    unsubscribes = content.UNSUBSCRIBE_URL in names or content.UNSUBSCRIBE_URL in worn.footer
    addresses = {content.UNSUBSCRIBE_URL} if unsubscribes else set()
    if known_links is not None:
        addresses |= {content.TRACKING_OPEN} | ({content.TRACKING_CLICK} if made.links else set())
    return Copy(made, names - {content.UNSUBSCRIBE_URL}, frozenset(addresses), version.pk)


def absolute_image_urls(body: str) -> str:
    """Rich text whose pictures of ours are found from anywhere."""
    return body.replace('src="/', f'src="{settings.PUBLIC_URL}/')


def facts_of(customer: Customer | Mapping[str, Any], company: Company | Mapping[str, Any] | None) -> dict[str, Any]:
    """What a text may say of a customer and a company; rows come as models or as dictionaries of their columns."""
    return {**row_columns(customer), "company": row_columns(company) if company is not None else None}


def model_to_columns(row: Customer | Company) -> dict[str, Any]:
    """The loaded columns of a model's instance."""
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


def row_columns(row: Customer | Company | Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns by name, its custom attributes under the name that texts use."""
    values = dict(row) if isinstance(row, Mapping) else model_to_columns(row)
    if "remote_created_at" in values:
        values["created_at"] = values["remote_created_at"]
    return {**values, "custom_attributes": values.get("attributes") or {}}


def variable_values(names: Collection[str], *, customer: Any, company: Any) -> dict[str, object]:
    """The values of these variables as of now."""
    return content.variable_values(names, facts_of(customer, company)) if names else {}


def render_sent_copy(record: DeliveryRecord) -> content.Rendered | None:
    """The copy as it read to the customer; None where nothing was sent yet."""
    if record.version is None:
        return None
    if record.forgotten_at is not None:
        raise content.ContentError("It is no longer kept how this one read.")
    rendered = copy_of(record.version, channel=record.message.channel).render(record.variables, record_id=record.pk)
    # A chat is shown without a subject, also if one is stored with it.
    return replace(rendered, subject="") if record.message.format == Format.CHAT else rendered


def message_id(record_id: int) -> str:
    """The Message-ID of a record's mail: the same at every try, and not to be guessed."""
    signature = Signer(salt="message-id").signature(str(record_id))[:16]
    return f"<{record_id}.{signature.replace('_', '-')}@{settings.MESSAGE_ID_DOMAIN}>"


def unsubscribe_url(record_id: int, _version: int = 0) -> str:
    """Where the customer of a record unsubscribes: says nothing of them, and has no end (behaviour 7.5)."""
    return f"{settings.PUBLIC_URL}/{PATHS['unsubscribe']}{unsubscribe_token(record_id)}"


# Asked for twice for each copy: for the link in its text and for the one in its headers.
@lru_cache(maxsize=16)
def unsubscribe_token(record_id: int) -> str:
    """What tells of whom an unsubscribe link is."""
    return tokens.make_token(record_id, purpose="unsubscribe")


# Asked for twice as well: for the links, and for the picture.
@lru_cache(maxsize=16)
def tracking_token(record_id: int, version_id: int) -> str:
    """What tells which copy was opened, or a link of it followed."""
    return tokens.make_token(record_id, version_id, purpose="tracking")


def click_url(record_id: int, version_id: int) -> str:
    """What comes before the number of a link in a copy."""
    return f"{settings.PUBLIC_URL}/{PATHS['click']}{tracking_token(record_id, version_id)}/"


def open_url(record_id: int, version_id: int) -> str:
    """The picture that tells of an opening."""
    return f"{settings.PUBLIC_URL}/{PATHS['open']}{tracking_token(record_id, version_id)}.gif"


# Where these are (delivery.urls); asking Django for each copy took longer than writing the mail.
PATHS = {"unsubscribe": "m/unsubscribe/", "click": "m/c/", "open": "m/o/"}
ADDRESSES: dict[str, Callable[[int, int], str]] = {
    content.UNSUBSCRIBE_URL: unsubscribe_url,
    content.TRACKING_CLICK: click_url,
    content.TRACKING_OPEN: open_url,
}


def envelope(
    message: Message, sender: Sender, rendered: content.Rendered, *, record_id: int, to: tuple[str, ...]
) -> Envelope:
    """Put a finished copy into its envelope."""
    headers = {}
    reply_to, return_path = "", ""
    if message.channel == Channel.EMAIL:
        reply_to = reply_addresses.reply_address_of(ReferentKind.RECORD, record_id)
        return_path = reply_addresses.return_path(ReferentKind.RECORD, record_id)
    if message.channel == Channel.EMAIL and not message.to_customer_id:
        headers = {
            "List-Unsubscribe": f"<{unsubscribe_url(record_id)}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
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
