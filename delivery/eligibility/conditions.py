"""Conditions of a message as SQL: its rules, reachability, and the delivery window.

SQL is compiled once per version and workspace generation and cached in the process (behaviour 5, "One judge: SQL").
"""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

from django.db import connection

from audiences.compiler import CURRENT_VIEW, NOW, Condition, View, compile_tree
from audiences.models import Customer, SuppressionReason, Workspace
from audiences.models.consent import HAS_NOT_CONFIRMED, opted_out_sql
from audiences.models.presence import SESSION_IDLE_TIMEOUT_SQL
from audiences.models.suppression import ACTIVE_ENTRY, comparable_sql
from audiences.rules import RuleError
from delivery.models import Reason
from messaging import delivery_window
from messaging.models import Channel, Message, WindowZone

NO_DEVICE = "NOT EXISTS (SELECT FROM audiences_device v WHERE v.customer_id = c.id AND v.retired_at IS NULL)"
# Whether leads must confirm their address, read once for each statement (behaviour 4.30).
DOUBLE_OPT_IN = "(SELECT w.double_opt_in FROM audiences_workspace w)"
# Why a customer cannot be reached by a channel; the first that holds is the reason (behaviour 4.11).
UNREACHABLE: dict[Channel, tuple[tuple[Reason, str], ...]] = {
    Channel.EMAIL: (
        (Reason.NO_EMAIL, "c.email IS NULL"),
        (Reason.UNSUBSCRIBED, "c.unsubscribed_from_emails"),
        (Reason.BOUNCED, "c.has_hard_bounced"),
        (Reason.COMPLAINED, "c.marked_email_as_spam"),
        # The setting first: while it is off, nothing of the customer is read.
        (Reason.NOT_CONFIRMED, f"{DOUBLE_OPT_IN} AND {HAS_NOT_CONFIRMED}"),
    ),
    Channel.IN_APP: (),
    Channel.PUSH: ((Reason.NO_DEVICE, NO_DEVICE),),
}
# The same for a direct message, which the console may send to customers who unsubscribed or have not confirmed their
# address (behaviour 4.12).
UNREACHABLE_ALONE = {
    **UNREACHABLE,
    Channel.EMAIL: tuple(
        row for row in UNREACHABLE[Channel.EMAIL] if row[0] not in (Reason.UNSUBSCRIBED, Reason.NOT_CONFIRMED)
    ),
}

# A visit sees the last-seen values from before its session (behaviour 4.16).
IN_SESSION = f"({{row}}.present_since_at IS NOT NULL AND {{row}}.last_seen_at >= {NOW} - {SESSION_IDLE_TIMEOUT_SQL})"
CUSTOMER_IS_PRESENT, COMPANY_IS_PRESENT = IN_SESSION.format(row="c"), IN_SESSION.format(row="k")
# The same in Python: `Company.last_seen_before`.
COMPANY_BEFORE_SESSION = (
    f"(CASE WHEN NOT {CUSTOMER_IS_PRESENT} THEN k.last_seen_at"
    " WHEN c.present_since_at <= k.present_since_at THEN k.previous_last_seen_at"
    f" WHEN {COMPANY_IS_PRESENT} THEN k.present_since_at ELSE k.last_seen_at END)"
)
AT_VISIT = View(
    last_seen=f"(CASE WHEN {CUSTOMER_IS_PRESENT} THEN c.previous_last_seen_at ELSE c.last_seen_at END)",
    company_last_seen=COMPANY_BEFORE_SESSION,
)
# A login that REST reported, judged by a later round.
AT_LOGIN = View(last_seen="c.previous_last_seen_at")

# A record keeps the last-seen values of its match until a later session begins.
KEPT = "(CASE WHEN {row}.present_since_at <= r.matched_at THEN r.{judged} ELSE {row}.last_seen_at END)"
KEPT_LAST_SEEN = KEPT.format(row="c", judged="judged_last_seen_at")
KEPT_COMPANY_LAST_SEEN = KEPT.format(row="k", judged="judged_company_last_seen_at")
# For a recheck after a pause: dates as of now.
AS_HELD = View(last_seen=KEPT_LAST_SEEN, company_last_seen=KEPT_COMPANY_LAST_SEEN)
# For a recheck when the window opens: dates as of the match.
AS_MATCHED = replace(AS_HELD, now="r.matched_at")


SUPPRESSED_REASONS = {
    SuppressionReason.HARD_BOUNCE: Reason.BOUNCED,
    SuppressionReason.COMPLAINT: Reason.COMPLAINED,
    SuppressionReason.OPT_OUT: Reason.UNSUBSCRIBED,
}


def suppressed_reason_sql(message: Message) -> str:
    """Return SQL for why the address of the customer `c` is suppressed; NULL if it is not.

    The flags of customers say the same, but a customer may get an address in the moment in which it is suppressed.
    """
    if message.channel != Channel.EMAIL:
        return "NULL"
    cases = " ".join(f"WHEN '{entry}' THEN '{reason}'" for entry, reason in SUPPRESSED_REASONS.items())
    alone = f" AND s.reason <> '{SuppressionReason.OPT_OUT}'" if message.to_customer_id else ""
    return f"(SELECT CASE s.reason {cases} END FROM {ACTIVE_ENTRY}{alone} LIMIT 1)"


def unreachable_conditions(message: Message) -> tuple[tuple[Reason, str], ...]:
    """Return the reasons why the customer `c` cannot be reached, each with its condition in SQL."""
    table = UNREACHABLE_ALONE if message.to_customer_id else UNREACHABLE
    channel = table[Channel(message.channel)]
    return (Reason.ARCHIVED, "c.archived_at IS NOT NULL"), *channel, *topic_conditions(message.topic_id)


def topic_conditions(topic: int | None) -> tuple[tuple[Reason, str], ...]:
    """Return the reason and the condition for customers who opted out of a topic; nothing without one."""
    return ((Reason.OPTED_OUT, opted_out_sql(str(topic), customer="c.id")),) if topic else ()


def unreachable_reason_sql(message: Message) -> str:
    """Return SQL for why the customer `c` cannot be reached; NULL if they can."""
    cases = (f" WHEN {sql} THEN '{reason}'" for reason, sql in unreachable_conditions(message))
    return f"(CASE{''.join(cases)} END)"


def left_out_reason_sql(message: Message) -> str:
    """Return SQL for why a matching pair gets no copy; NULL if it does. `k` is in scope if each company gets a copy."""
    no_company = f"CASE WHEN k.id IS NULL THEN '{Reason.NO_COMPANY}' END" if message.goes_per_company else "NULL"
    return f"coalesce({unreachable_reason_sql(message)}, {no_company})"


def unreachable_reasons(message: Message, customer: Customer) -> tuple[Reason, ...]:
    """Return all reasons why this message's channel cannot reach this customer, the first of them first."""
    rows = unreachable_conditions(message)
    with connection.cursor() as cursor:
        columns = ", ".join(f"({sql}) IS TRUE" for _, sql in rows)
        cursor.execute(f"SELECT {columns} FROM audiences_customer c WHERE c.id = %s", [customer.pk])
        found = cursor.fetchone() or ()
    return tuple(reason for (reason, _), held in zip(rows, found, strict=False) if held)


def has_left_sql(record: str = "r") -> str:
    """Return SQL for whether a record is about an archived company, or one that its customer is not a member of.

    A subquery with a value, because PostgreSQL may answer an EXISTS by reading all memberships into memory.
    """
    return (
        f"({record}.company_id IS NOT NULL AND (SELECT firm.archived_at IS NULL FROM audiences_membership belongs"
        f" JOIN audiences_company firm ON firm.id = belongs.company_id WHERE belongs.customer_id = {record}.customer_id"
        f" AND belongs.company_id = {record}.company_id) IS NOT TRUE)"
    )


# Whether a device has, or may have, the push of a record `r`.
IS_ON_A_DEVICE = "EXISTS (SELECT FROM delivery_devicecopy d WHERE d.record_id = r.id)"

# Two addresses with the same value are one inbox.
INBOX = comparable_sql("c.email")
NO_INBOX = "NULL::text"


def inbox_sql(message: Message) -> str:
    """Return SQL for the address of a copy to the customer `c`; NULL if one address may receive the message twice."""
    once = message.channel == Channel.EMAIL and message.same_inbox_once and not message.to_customer_id
    return INBOX if once else NO_INBOX


def reachable_sql(channel: str, *, topic: int | None = None, double_opt_in: bool | None = None) -> str:
    """Return SQL for whether the customer `c` can be reached by a channel, with messages about a topic.

    `double_opt_in` is whether leads must confirm their address; None reads it once in each statement.
    """
    rows = (*UNREACHABLE[Channel(channel)], *topic_conditions(topic))
    # Without the option the SQL, and so the fingerprint of the rules, is as it was before there was the option.
    kept = [sql for reason, sql in rows if double_opt_in is not False or reason is not Reason.NOT_CONFIRMED]
    if double_opt_in:
        kept = [sql.removeprefix(f"{DOUBLE_OPT_IN} AND ") for sql in kept]
    return "(" + " AND ".join(["TRUE", *(f"NOT ({sql})" for sql in kept)]) + ")"


def condition_of(message: Message, *, view: View = CURRENT_VIEW, prefix: str = "p") -> Condition:
    """Compile the rules of a message; RuleError if they are no longer valid."""
    if message.audience is None:
        raise RuleError("A message to one person has no audience.")
    return compile_tree(message.audience.tree, view=view, prefix=prefix, events_since=events_since(message))


def events_since(message: Message) -> datetime | None:
    """Return the moment after which events count, None for all events (behaviour 4.21)."""
    return message.went_live_at if message.only_new_matches else None


def next_openings(message: Message, *, at: datetime) -> tuple[datetime, dict[str, str]]:
    """Return when a message may go next by the workspace's clock, and by zone where customers' zones decide."""
    workspace = Workspace.current()
    window = message.open_window(workspace.quiet_hours)
    own = delivery_window.next_opening(window, at, workspace.tz)
    if message.window_zone != WindowZone.CUSTOMER or not window.spans:
        return own, {}
    by_zone = {name: delivery_window.next_opening(window, at, ZoneInfo(name)) for name in available_timezones()}
    return own, {name: opening.isoformat() for name, opening in by_zone.items() if opening != own}


def next_opening(
    window: delivery_window.Window, zone_of: str, zone_name: str, *, workspace: ZoneInfo, at: datetime
) -> datetime:
    """Return when a window is next open for a customer in that zone; `at` while it is open."""
    if not window.spans:
        return at
    zone = delivery_window.zone_or_fallback(zone_name, workspace) if zone_of == WindowZone.CUSTOMER else workspace
    return delivery_window.next_opening(window, at, zone)
