"""Triggers that log what happens to delivery records: for the rounds, and for subscribers of webhooks.

The change log gets inserted records as ranges of keys, one entry for each message and statement: a launch or a round
inserts many, and only rules about this message ask for them. It gets updates by customer.

The webhook outbox gets a notification for each event and subscription. One statement writes all of a batch, and no code
path bypasses it. Without a subscriber it costs one look at the subscriptions.
"""

from datetime import timedelta

import pgtrigger

from audiences.change_log import ALL, BIT, PAIRS, insert_sql, trigger
from audiences.models import Topic

# A client that follows every link of an email this soon after it was sent is a scanner, whatever its user agent.
SCANNER_WINDOW = timedelta(seconds=30)

GOT = "status IN ('waiting', 'sending', 'uncertain', 'sent')"
# The parts of a record that rules about messages see (`audiences.attributes`).
FACTS = (
    "{row}." + GOT,
    "{row}.status = 'sent'",
    *(f"{{row}}.{name}_at IS NULL" for name in ("opened", "clicked", "replied")),
)
OLD_FACTS, NEW_FACTS = (", ".join(f"({fact.format(row=row)})" for fact in FACTS) for row in "on")
# A withdrawn record waits again if its customer matches again, unless the message was stopped.
BITS = (
    f"CASE WHEN ({OLD_FACTS}) IS DISTINCT FROM ({NEW_FACTS}) THEN {BIT['record']}::bigint ELSE 0 END"
    " | CASE WHEN n.status = 'withdrawn' AND o.status <> 'withdrawn' AND n.reason <> 'stopped'"
    f" THEN {BIT['withdrawn']}::bigint ELSE 0 END"
    f" | CASE WHEN o.customer_id IS DISTINCT FROM n.customer_id THEN {ALL}::bigint ELSE 0 END"
)
CHANGED = (
    "SELECT DISTINCT unnest(ARRAY[was, now]), bits"
    f" FROM (SELECT o.customer_id AS was, n.customer_id AS now, {BITS} AS bits FROM {PAIRS}) AS changes WHERE bits <> 0"
)
INSERTED = "SELECT message_id, min(id), max(id), {bit} FROM new_rows GROUP BY message_id".format(bit=BIT["record"])

# Events of a record: whether the update from `o` to `n` is one, and its moment. Only these two statuses have no moment
# of their own. A reclassified click can change the moments of opens and clicks (`delivery.tracking.hits`): the new
# moment replaces an event that was not sent yet (`delivery.webhooks.notification`).
BECOMES = "n.status = '{status}' AND o.status IS DISTINCT FROM '{status}'"
EVENTS: dict[Topic, tuple[str, str]] = {
    Topic.MESSAGE_SENT: (BECOMES.format(status="sent"), "n.sent_at"),
    Topic.MESSAGE_FAILED: (BECOMES.format(status="failed"), "now()"),
    Topic.MESSAGE_UNCERTAIN: (BECOMES.format(status="uncertain"), "now()"),
    Topic.MESSAGE_OPENED: ("n.opened_at <> o.opened_at OR o.opened_at IS NULL", "n.opened_at"),
    Topic.MESSAGE_CLICKED: ("n.clicked_at <> o.clicked_at OR o.clicked_at IS NULL", "n.clicked_at"),
    Topic.MESSAGE_REPLIED: ("o.replied_at IS NULL", "n.replied_at"),
    Topic.MESSAGE_BOUNCED: ("o.bounced_at IS NULL", "n.bounced_at"),
    Topic.MESSAGE_COMPLAINED: ("o.complained_at IS NULL", "n.complained_at"),
    Topic.MESSAGE_UNSUBSCRIBED: ("o.unsubscribed_at IS NULL", "n.unsubscribed_at"),
}
TOPICS = ", ".join(f"'{topic}'" for topic in (Topic.ALL, *EVENTS))
ROWS = ", ".join(f"('{topic}', {is_event}, {moment})" for topic, (is_event, moment) in EVENTS.items())
# Opens and clicks of emails wait until it is known whether they were a scanner's.
DUE_AT = (
    "CASE WHEN m.channel = 'email' AND events.topic IN ('message.opened', 'message.clicked')"
    f" THEN greatest(events.at, n.sent_at + interval '{SCANNER_WINDOW.total_seconds():.0f} seconds')"
    " ELSE least(events.at, now()) END"
)


def notify_sql(rows: str) -> str:
    """Return SQL that notifies the subscribers of the events of `rows`, pairs of an old record o and a new one n."""
    return f"""
    IF EXISTS (SELECT FROM audiences_subscription WHERE active AND topics && ARRAY[{TOPICS}]::varchar[]) THEN
        INSERT INTO audiences_notification
            (subscription_id, topic, customer_id, about, state, created_at, due_at, attempts, detail)
            SELECT s.id, events.topic, n.customer_id, jsonb_build_object('record', n.id), 'waiting', events.at,
                {DUE_AT}, 0, ''
            FROM {rows}
            CROSS JOIN LATERAL (VALUES {ROWS}) AS events(topic, is_event, at)
            JOIN audiences_subscription s
                ON s.active AND s.topics && ARRAY['{Topic.ALL}', events.topic]::varchar[]
            JOIN messaging_message m ON m.id = n.message_id
            WHERE events.is_event AND events.at IS NOT NULL
            ORDER BY n.id, events.at, s.id;
    END IF"""


TRIGGERS = [
    trigger(
        "new_is_logged", pgtrigger.Insert, insert_sql(INSERTED, columns="message_id, first_record, last_record, bits")
    ),
    trigger("change_is_logged", pgtrigger.Update, insert_sql(CHANGED)),
    # A visit inserts in-app records as sent. Most statements insert waiting records only.
    trigger(
        "new_is_notified",
        pgtrigger.Insert,
        notify_sql("(SELECT * FROM new_rows WHERE status <> 'waiting') n LEFT JOIN new_rows o ON FALSE"),
    ),
    trigger("change_is_notified", pgtrigger.Update, notify_sql(PAIRS)),
]
