"""One person's copy: the variables' values as of now, and the text they make with a version (DESIGN 3, `filled`)."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.utils import formataddr
from functools import cache, lru_cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.signing import Signer
from django.urls import reverse

from audiences.models import Company, Customer
from delivery.channels.base import Envelope
from delivery.models import DeliveryRecord
from messaging import content
from messaging.models import Channel, Message, MessageVersion, Sender

LAYOUTS = {
    Channel.EMAIL: content.Layout.EMAIL,
    Channel.IN_APP: content.Layout.FRAGMENT,
    Channel.PUSH: content.Layout.TEXT,
}
KEPT_VERSIONS = 200


@dataclass(frozen=True, slots=True)
class Copy:
    """A version compiled, and the variables it uses."""

    compiled: content.Compiled
    names: frozenset[str]
    links: bool

    def render(self, filled: Mapping[str, object], *, record_id: int) -> content.Rendered:
        """The copy as it reads to the person of whom `filled` was true; ContentError where it cannot be filled in."""
        if self.links:
            filled = {**filled, content.UNSUBSCRIBE_URL: unsubscribe_url(record_id)}
        return self.compiled.render(filled)


KEPT: OrderedDict[int, Copy] = OrderedDict()
KEEPING = Lock()


def copy_of(version: MessageVersion, *, channel: str) -> Copy:
    """Compile a version, once in a process: one that went out never changes."""
    with KEEPING:
        kept = KEPT.get(version.pk)
        if kept is None:
            kept = KEPT[version.pk] = compiled(version, channel=channel, dress=version.dress)
            if len(KEPT) > KEPT_VERSIONS:
                KEPT.popitem(last=False)
    return kept


def compiled(version: MessageVersion, *, channel: str, dress: Mapping[str, str]) -> Copy:
    """Compile a version in a dress; what it links and shows of ours becomes an address that a mail can follow."""
    names = content.variables(version.subject) | content.variables(version.body)
    worn = content.dress_of(dress, unsubscribes=content.UNSUBSCRIBE_URL in names)
    made = content.compile_version(
        version.subject,
        absolute(version.body),
        layout=LAYOUTS[Channel(channel)],
        header=absolute(worn.header),
        footer=worn.footer,
        colour=worn.colour,
    )
    links = content.UNSUBSCRIBE_URL in names or content.UNSUBSCRIBE_URL in worn.footer
    return Copy(made, names - {content.UNSUBSCRIBE_URL}, links)


def absolute(body: str) -> str:
    """Rich text whose pictures of ours are found from anywhere."""
    return body.replace('src="/', f'src="{settings.PUBLIC_URL}/')


def facts_of(customer: Customer | Mapping[str, Any], company: Company | Mapping[str, Any] | None) -> dict[str, Any]:
    """What a text may say of a customer and a company; rows come as models or as dictionaries of their columns."""
    return {**columns(customer), "company": columns(company) if company is not None else None}


def model_to_columns(row: Customer | Company) -> dict[str, Any]:
    """The loaded columns of a model's instance."""
    return {name: value for name, value in vars(row).items() if not name.startswith("_")}


def columns(row: Customer | Company | Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns by name, its custom attributes under the name that texts use."""
    values = dict(row) if isinstance(row, Mapping) else model_to_columns(row)
    if "remote_created_at" in values:
        values["created_at"] = values["remote_created_at"]
    return {**values, "custom_attributes": values.get("attributes") or {}}


def fill(names: Collection[str], *, customer: Any, company: Any) -> dict[str, object]:
    """The values of these variables as of now."""
    return content.fill(names, facts_of(customer, company)) if names else {}


def as_read(record: DeliveryRecord) -> content.Rendered | None:
    """The copy as it read to the customer; None where nothing was sent yet."""
    if record.version is None:
        return None
    return copy_of(record.version, channel=record.message.channel).render(record.filled, record_id=record.pk)


def message_id(record_id: int) -> str:
    """The Message-ID of a record's mail: the same at every try, and not to be guessed."""
    signature = Signer(salt="message-id").signature(str(record_id))[:16]
    return f"<{record_id}.{signature.replace('_', '-')}@{settings.MESSAGE_ID_DOMAIN}>"


def unsubscribe_url(record_id: int) -> str:
    """Where the customer of a record unsubscribes: signed, and without an end (DESIGN, tracking)."""
    return settings.PUBLIC_URL + unsubscribe_page() + unsubscribe_token(record_id)


@cache
def unsubscribe_page() -> str:
    """The path before the token; asking for it once a mail took longer than writing the mail."""
    return reverse("delivery:unsubscribe", args=["-"]).removesuffix("-")


# Asked for twice for each copy: for the link in its text and for the one in its headers.
@lru_cache(maxsize=16)
def unsubscribe_token(record_id: int) -> str:
    """What tells of whom an unsubscribe link is."""
    return Signer(salt="unsubscribe").sign(str(record_id))


def envelope(
    message: Message, sender: Sender, rendered: content.Rendered, *, record_id: int, to: tuple[str, ...]
) -> Envelope:
    """Put a finished copy into its envelope."""
    headers = {}
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
        reply_to=sender.reply_to or sender.email,
        message_id=message_id(record_id),
        headers=headers,
    )
