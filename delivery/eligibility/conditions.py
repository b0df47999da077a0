"""What each message asks of a customer, as SQL: its rules, who can be reached, and when it may be delivered.

SQL is compiled once per version and workspace generation and kept in the process (DESIGN 5, "One judge: SQL").
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock
from zoneinfo import ZoneInfo, available_timezones

from audiences.compiler import TODAY, Condition, View, compile_tree
from audiences.models import CustomAttribute, Workspace
from audiences.models.catalogue import Scope
from audiences.rules import Kind, RuleError
from delivery.models import Reason
from messaging import content
from messaging import delivery_window
from messaging.models import Channel, Message, SendType, WindowZone

NO_DEVICE = "NOT EXISTS (SELECT FROM audiences_device v WHERE v.customer_id = c.id AND v.retired_at IS NULL)"
# Why a customer cannot be reached by a channel, the first that holds being the reason (DESIGN 4.11).
UNREACHABLE: dict[Channel, tuple[tuple[Reason, str], ...]] = {
    Channel.EMAIL: (
        (Reason.NO_EMAIL, "c.email IS NULL"),
        (Reason.UNSUBSCRIBED, "c.unsubscribed_from_emails"),
        (Reason.BOUNCED, "c.has_hard_bounced"),
        (Reason.COMPLAINED, "c.marked_email_as_spam"),
    ),
    Channel.IN_APP: (),
    Channel.PUSH: ((Reason.NO_DEVICE, NO_DEVICE),),
}
# The same for a message to one person, which the unsubscribed may be sent from the console (DESIGN 4.12).
UNREACHABLE_ALONE = {
    **UNREACHABLE,
    Channel.EMAIL: tuple(row for row in UNREACHABLE[Channel.EMAIL] if row[0] is not Reason.UNSUBSCRIBED),
}

# Judged again when the window opens: by the dates of when it was matched, and without what that visit moved.
AS_MATCHED = View(
    now="r.matched_at",
    last_seen="(CASE WHEN c.last_seen_at = r.matched_at THEN r.judged_last_seen_at ELSE c.last_seen_at END)",
    company_last_seen=(
        "(CASE WHEN k.last_seen_at = r.matched_at THEN r.judged_company_last_seen_at ELSE k.last_seen_at END)"
    ),
)


def blocked(message: Message) -> str:
    """SQL for the reason the customer `c` cannot be reached, NULL where nothing stands in the way."""
    rows = (UNREACHABLE_ALONE if message.to_customer_id else UNREACHABLE)[Channel(message.channel)]
    archived = f"WHEN c.archived_at IS NOT NULL THEN '{Reason.ARCHIVED}'"
    return f"(CASE {archived}" + "".join(f" WHEN {sql} THEN '{reason}'" for reason, sql in rows) + " END)"


def has_left(record: str = "r") -> str:
    """SQL for whether a record is about a company that its customer is not a member of, or that is archived.

    A subquery with a value, as PostgreSQL may answer an EXISTS by reading all memberships into memory.
    """
    return (
        f"({record}.company_id IS NOT NULL AND (SELECT firm.archived_at IS NULL FROM audiences_membership belongs"
        f" JOIN audiences_company firm ON firm.id = belongs.company_id WHERE belongs.customer_id = {record}.customer_id"
        f" AND belongs.company_id = {record}.company_id) IS NOT TRUE)"
    )


# What makes two addresses one inbox.
INBOX = "lower(btrim(c.email))"
NO_INBOX = "NULL::text"


def inbox(message: Message) -> str:
    """SQL for the inbox a copy to the customer `c` goes to; NULL where one inbox may get the message twice."""
    once = message.channel == Channel.EMAIL and message.same_inbox_once and not message.to_customer_id
    return INBOX if once else NO_INBOX


def reachable(channel: str) -> str:
    """SQL that holds where the customer `c` can be reached by a channel."""
    return "(" + " AND ".join(["TRUE", *(f"NOT ({sql})" for _, sql in UNREACHABLE[Channel(channel)])]) + ")"


def condition_of(message: Message, *, view: View = TODAY, prefix: str = "p") -> Condition:
    """Compile the rules of a message to an audience; RuleError where they no longer make sense."""
    if message.audience is None:
        raise RuleError("A message to one person has no audience.")
    return compile_tree(message.audience.tree, view=view, prefix=prefix)


def openings(window: delivery_window.Window, zone_of: str, *, at: datetime) -> tuple[datetime, dict[str, str]]:
    """When the window opens next: by the workspace's clock, and for customers' zones by name where theirs decide."""
    workspace = Workspace.current().tz
    own = delivery_window.next_opening(window, at, workspace)
    if zone_of != WindowZone.CUSTOMER or not window.spans:
        return own, {}
    by_zone = {name: delivery_window.next_opening(window, at, ZoneInfo(name)) for name in available_timezones()}
    return own, {name: opening.isoformat() for name, opening in by_zone.items() if opening != own}


def opening(window: delivery_window.Window, zone_of: str, zone_name: str, *, workspace: ZoneInfo, at: datetime) -> datetime:
    """When a window is next open for a customer in that zone; `at` itself while it is."""
    if not window.spans:
        return at
    zone = delivery_window.zone(zone_name, workspace) if zone_of == WindowZone.CUSTOMER else workspace
    return delivery_window.next_opening(window, at, zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A live message to an audience, as visits need it: its facts, and its rules compiled."""

    pk: int
    version_id: int
    channel: Channel
    send_type: SendType
    per_company: bool
    window: delivery_window.Window
    window_zone: str
    condition: Condition | None
    reachable: str
    # The variables an in-app message uses, where what they stand for is the customer's alone.
    names: tuple[str, ...]

    def opening(self, zone_name: str, *, workspace: ZoneInfo, at: datetime) -> datetime:
        """When it may next be delivered to a customer in that zone; `at` itself while the window is open."""
        return opening(self.window, self.window_zone, zone_name, workspace=workspace, at=at)


@dataclass(frozen=True, eq=False)
class LiveMessages:
    """All live messages at one generation of the workspace; told apart by identity, so that more can be kept by it."""

    generation: int
    zone: ZoneInfo
    ongoing: tuple[Live, ...]
    one_off_in_app: tuple[Live, ...]
    # What else a visit needs that only a new generation changes: the identity secret and whether it must be used, and
    # the kinds of attributes, of which more may be learnt meanwhile.
    identity: tuple[str, bool]
    kinds: dict[tuple[Scope, str], Kind]

    def all(self) -> tuple[Live, ...]:
        """Every one."""
        return self.ongoing + self.one_off_in_app

    @cached_property
    def keys(self) -> list[int]:
        """The ongoing ones that go once to each customer, whatever company they are in."""
        return [message.pk for message in self.ongoing if not message.per_company]

    @cached_property
    def in_app(self) -> list[int]:
        """The ongoing ones that only a visit brings."""
        return [message.pk for message in self.ongoing if message.channel == Channel.IN_APP]

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables any of them uses."""
        return frozenset(name for message in self.all() for name in message.names)


KEPT: dict[str, LiveMessages] = {}
KEEPING = Lock()


def forget() -> None:
    """Drop what this process keeps compiled."""
    KEPT.clear()


def kept(*, database: str) -> LiveMessages | None:
    """What this process has compiled, of whichever generation; None before the first visit."""
    return KEPT.get(database)


def live_messages(*, generation: int, database: str) -> LiveMessages:
    """Return all live messages compiled, from what this process keeps unless something changed since."""
    here = KEPT.get(database)
    if here is None or here.generation != generation:
        with KEEPING:
            found = KEPT.get(database)
            # Whoever waited here uses what the one before them has compiled, unless it is old news by now.
            if found is None or found is here or found.generation < generation:
                found = KEPT[database] = read_live_messages()
        return found
    return here


def names_in(message: Message) -> tuple[str, ...]:
    """The variables an in-app message uses; none where a company's are among them, or the text cannot be read."""
    if message.channel != Channel.IN_APP or message.per_company or message.version is None:
        return ()
    try:
        return tuple(sorted(content.variables(message.version.subject) | content.variables(message.version.body)))
    except content.ContentError:
        return ()


def read_live_messages() -> LiveMessages:
    """Read and compile every live message to an audience; one whose rules no longer make sense is left out."""
    workspace = Workspace.current()
    catalogue = CustomAttribute.objects.catalogue()
    ongoing: list[Live] = []
    one_off: list[Live] = []
    rows = Message.objects.live().to_audiences().select_related("audience", "version").order_by("pk")
    for message in rows:
        assert message.audience is not None and message.version_id is not None  # noqa: S101, PT018 - live ones have both
        is_ongoing = message.send_type == SendType.ONGOING
        if not is_ongoing and message.channel != Channel.IN_APP:
            continue
        try:
            condition = (
                compile_tree(message.audience.tree, prefix=f"m{message.pk}_", catalogue=catalogue, zone=workspace.tz)
                if is_ongoing
                else None
            )
        except RuleError:
            continue  # The hourly round writes the trouble on the message.
        live = Live(
            pk=message.pk,
            version_id=message.version_id,
            channel=Channel(message.channel),
            send_type=SendType(message.send_type),
            per_company=message.per_company,
            window=message.parsed_window,
            window_zone=message.window_zone,
            condition=condition,
            reachable=reachable(message.channel),
            names=names_in(message),
        )
        (ongoing if is_ongoing else one_off).append(live)
    kinds = {(Scope.CUSTOMER, name): kind for name, kind in catalogue.customer.items()}
    kinds |= {(Scope.COMPANY, name): kind for name, kind in catalogue.company.items()}
    return LiveMessages(
        workspace.generation,
        workspace.tz,
        tuple(ongoing),
        tuple(one_off),
        (workspace.identity_secret, workspace.require_user_hash),
        kinds,
    )
