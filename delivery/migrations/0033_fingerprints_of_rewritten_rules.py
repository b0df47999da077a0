"""Keep the match states of messages whose rules were rewritten, so that the next round does not judge everyone again.

A state is kept only if it was up to date: its fingerprint is that of the old rules, compiled as in version 0.2. Otherwise
the next round judges everyone, as it would have done without the upgrade.
"""

import json
import logging
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from django.db import migrations

log = logging.getLogger(__name__)

STATES = (
    "SELECT s.message_id, s.fingerprint, m.channel, m.per_company, r.before::text, r.after::text"
    " FROM delivery_matchstate s JOIN messaging_message m ON m.id = s.message_id"
    " JOIN audiences_rewrittenrules r ON r.owner = 'audience' AND r.row_id = m.audience_id"
)


def keep_states(_apps: object, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(STATES)
        states = cursor.fetchall()
        cursor.execute("SELECT zone FROM audiences_workspace")
        zones = cursor.fetchall()
        cursor.execute("SELECT scope, name, kind FROM audiences_customattribute")
        kinds = cursor.fetchall()
        for message, fingerprint, *about in states:
            try:
                before, after = fingerprints(message, *about, zone=zones[0][0], kinds=kinds)
            except Exception:
                # A later version may compile rules in another way. Then everyone is judged, which is only slower.
                log.exception("the match state of message %s is not kept", message)
                continue
            if fingerprint == before:
                cursor.execute(
                    "UPDATE delivery_matchstate SET fingerprint = %s WHERE message_id = %s", [after, message]
                )


def fingerprints(
    message: int,
    channel: str,
    per_company: bool,  # noqa: FBT001 - a column of the row
    *rules: str,
    zone: str,
    kinds: list[tuple[str, str, str]],
) -> list[str]:
    """Return the fingerprint of a message with its old rules, compiled as before, and with its new ones."""
    from audiences.attributes import About, Catalogue, find_attribute
    from audiences.compiler import Compiler, exactly_days_ago, more_than_days_ago
    from audiences.rules import Group, Kind, Operator, Rule
    from delivery.eligibility.conditions import reachable_sql
    from delivery.matching.dependencies import fingerprint_of

    before = {
        Operator.MORE_THAN_DAYS_AGO: more_than_days_ago,
        Operator.EXACTLY_DAYS_AGO: exactly_days_ago,
        Operator.LESS_THAN_DAYS_AGO: lambda compiler, attribute, days: (
            f"{compiler.column_sql(attribute)} > {compiler.days_ago(days)}"
        ),
    }

    class OldCompiler(Compiler):
        def compile_rule(self, rule: Rule) -> str:
            if rule.operator not in before:
                return super().compile_rule(rule)
            attribute = find_attribute(rule.attribute, catalogue=self.catalogue)
            self.sees_company |= attribute.about is About.COMPANY
            return f"({before[rule.operator](self, attribute, rule.value)})"

    def tree(stored: dict[str, Any]) -> Group:
        inner = tuple(
            tree(rule) if "rules" in rule else Rule(rule["attribute"], Operator(rule["operator"]), rule.get("value"))
            for rule in stored["rules"]
        )
        return Group(
            stored["match"], inner, copied_from=stored.get("copied_from", ""), negated=stored.get("negated", False)
        )

    catalogue = Catalogue(
        customer={name: Kind(kind) for scope, name, kind in kinds if scope == "customer"},
        company={name: Kind(kind) for scope, name, kind in kinds if scope == "company"},
    )
    found = []
    for compiler_class, stored in zip((OldCompiler, Compiler), rules, strict=True):
        compiler = compiler_class(catalogue=catalogue, zone=ZoneInfo(zone), prefix=f"m{message}_")
        live: Any = SimpleNamespace(
            compiled=compiler.compile(tree(json.loads(stored))),
            reachable=reachable_sql(channel, double_opt_in=False),
            per_company=per_company,
            zone_name=zone,
        )
        found.append(fingerprint_of(live))
    return found


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0031_message_events"),
        ("messaging", "0014_future_dates"),
        ("audiences", "0028_rewritten_rules"),
    ]

    operations = [migrations.RunPython(keep_states, migrations.RunPython.noop)]
