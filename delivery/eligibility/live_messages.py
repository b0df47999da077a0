"""Live messages, compiled once per process: visits are matched against them."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from zoneinfo import ZoneInfo

from audiences.attributes import Catalogue
from audiences.compiler import Condition, compile_tree
from audiences.models import CustomAttribute, Workspace
from audiences.models.audience import parse_stored_rules
from audiences.models.catalogue import Scope
from audiences.rules import Kind, RuleError
from delivery import process
from delivery.eligibility import conditions
from messaging import content, delivery_window
from messaging.models import Channel, Message, SendType


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A live message to an audience: the facts that visits need, and its compiled rules."""

    pk: int
    version_id: int
    channel: Channel
    send_type: SendType
    went_live_at: datetime | None
    per_company: bool
    window: delivery_window.Window
    window_zone: str
    shown_until: datetime | None
    topic: int | None
    condition: Condition | None
    # The same rules with the last-seen values of a visit and of a login; None if no rule sees the customer's.
    visit_condition: Condition | None
    login_condition: Condition | None
    reachable: str
    # The workspace's time zone that the rules were compiled with.
    zone_name: str
    # The variables of an in-app message, if none of them is a company's.
    names: tuple[str, ...]

    @property
    def compiled(self) -> Condition:
        """The compiled rules of an ongoing message."""
        assert self.condition is not None  # noqa: S101 - ongoing ones are compiled
        return self.condition

    @property
    def judged_at_visit(self) -> Condition:
        """The compiled rules of an ongoing message with the last-seen values that a visit sees."""
        assert self.visit_condition is not None  # noqa: S101 - ongoing ones are compiled
        return self.visit_condition

    def has_ended(self, *, at: datetime) -> bool:
        return self.shown_until is not None and self.shown_until <= at

    def opening(self, zone_name: str, *, workspace: ZoneInfo, at: datetime) -> datetime:
        """Return when it may next be delivered to a customer in that zone; `at` while the window is open."""
        return conditions.next_opening(self.window, self.window_zone, zone_name, workspace=workspace, at=at)


@dataclass(frozen=True, eq=False)
class LiveMessages:
    """All live messages at one generation of the workspace; compared by identity, so that caches can be keyed by it."""

    generation: int
    zone: ZoneInfo
    ongoing: tuple[Live, ...]
    one_off_in_app: tuple[Live, ...]
    # Other facts that visits need and only a new generation changes: the identity secret, whether it is required, and
    # the kinds of attributes, which may grow meanwhile.
    identity: tuple[str, bool]
    kinds: dict[tuple[Scope, str], Kind]

    def all(self) -> tuple[Live, ...]:
        return self.ongoing + self.one_off_in_app

    @cached_property
    def keys(self) -> list[int]:
        """Ongoing messages that go once to each customer, whatever their company."""
        return [message.pk for message in self.ongoing if not message.per_company]

    @cached_property
    def in_app(self) -> list[int]:
        """Ongoing messages that only a visit delivers."""
        return [message.pk for message in self.ongoing if message.channel == Channel.IN_APP]

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables that any of them uses."""
        return frozenset(name for message in self.all() for name in message.names)


SEES_LAST_SEEN = re.compile(r"\b[ck]\.last_seen_at\b")


def cached_live_messages(*, database: str) -> LiveMessages | None:
    """Return the compiled messages of this process, of any generation; None before the first visit."""
    return process.live_messages.get(database)


def live_messages(*, generation: int, database: str) -> LiveMessages:
    """Return all live messages compiled, from the cache unless something changed since."""
    here: LiveMessages | None = process.live_messages.get(database)
    if here is None or here.generation != generation:
        with process.live_messages_lock:
            found: LiveMessages | None = process.live_messages.get(database)
            # A thread that waited here uses the result of the thread before it, unless that is outdated.
            if found is None or found is here or found.generation < generation:
                found = process.live_messages[database] = load_live_messages()
        return found
    return here


def in_app_variables(message: Message) -> tuple[str, ...]:
    """Return the variables of an in-app message; none if it uses company variables or cannot be parsed."""
    if message.channel != Channel.IN_APP or message.per_company or message.version is None:
        return ()
    try:
        return tuple(sorted(content.variables_in(message.version.subject) | content.variables_in(message.version.body)))
    except content.ContentError:
        return ()


def compile_message(message: Message, *, catalogue: Catalogue, workspace: Workspace) -> Live:
    """Compile a live message to an audience; the rules only if it is ongoing. RuleError if they are not valid."""
    assert message.audience is not None and message.version_id is not None  # noqa: S101, PT018 - live ones have both
    condition = at_visit = at_login = None
    if message.send_type == SendType.ONGOING:
        tree = parse_stored_rules(message.audience.rules, catalogue=catalogue)
        compile_view = partial(
            compile_tree,
            tree,
            prefix=f"m{message.pk}_",
            catalogue=catalogue,
            zone=workspace.tz,
            events_since=conditions.events_since(message),
        )
        condition = at_visit = compile_view()
        if SEES_LAST_SEEN.search(condition.sql):
            at_visit, at_login = compile_view(view=conditions.AT_VISIT), compile_view(view=conditions.AT_LOGIN)
    return Live(
        pk=message.pk,
        version_id=message.version_id,
        channel=Channel(message.channel),
        send_type=SendType(message.send_type),
        went_live_at=message.went_live_at,
        per_company=message.per_company,
        window=message.open_window(workspace.quiet_hours),
        window_zone=message.window_zone,
        shown_until=message.shown_until,
        topic=message.topic_id,
        condition=condition,
        visit_condition=at_visit,
        login_condition=at_login,
        # The setting is part of the fingerprint of the rules.
        reachable=conditions.reachable_sql(
            message.channel, topic=message.topic_id, double_opt_in=workspace.double_opt_in
        ),
        zone_name=workspace.zone,
        names=in_app_variables(message),
    )


def load_live_messages() -> LiveMessages:
    """Read and compile every live message to an audience; messages with invalid rules are left out."""
    workspace = Workspace.current()
    catalogue = CustomAttribute.objects.catalogue()
    ongoing: list[Live] = []
    one_off: list[Live] = []
    rows = Message.objects.live().to_audiences().select_related("audience", "version").order_by("pk")
    for message in rows:
        is_ongoing = message.send_type == SendType.ONGOING
        if not is_ongoing and message.channel != Channel.IN_APP:
            continue
        try:
            live = compile_message(message, catalogue=catalogue, workspace=workspace)
        except RuleError:
            continue  # The hourly round stores the problem on the message.
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
