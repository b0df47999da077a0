"""Triggers that write the changes of delivery records to the change log.

Inserted records are logged as ranges of keys, one entry for each message and statement: a launch or a round inserts
many, and only rules about this message ask for them. Updates are logged by customer.
"""

import pgtrigger

from audiences.change_log import ALL, BIT, PAIRS, insert_sql, trigger

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

TRIGGERS = [
    trigger(
        "new_is_logged", pgtrigger.Insert, insert_sql(INSERTED, columns="message_id, first_record, last_record, bits")
    ),
    trigger("change_is_logged", pgtrigger.Update, insert_sql(CHANGED)),
]
