"""Rewrite stored rules for the operators about future dates; each rewritten audience matches the same people as before.

Before, a negative number of days was the future, and "less than N days ago" included every future date (behaviour 6.2).
The rules are written without a new version, and the audience's `updated_at` stays. `audiences_rewrittenrules` has them
as they were, so that the reverse migration restores all rules that were not edited since.
"""

import json
from typing import Any

from django.db import migrations
from psycopg.types.json import Jsonb

AGO = ("more_than_days_ago", "less_than_days_ago", "exactly_days_ago")
# Segments and audiences of messages, and the log of them in versions.
TABLES = (("audience", "audiences_audience"), ("version", "messaging_messageversion"))

Node = dict[str, Any]


def rewritten_group(group: Node) -> Node:
    """Return a group of rules with the operators about the future."""
    stored = group.get("rules", [])
    joined_by_and = group.get("match", "all") == "all"
    past = {rule["attribute"] for rule in stored if joined_by_and and is_past(rule)}
    future = {rule["attribute"] for rule in stored if joined_by_and and is_future(rule)}
    rules = [
        rewritten_group(rule) if "rules" in rule else rewritten_rule(rule, past=past, future=future) for rule in stored
    ]
    if joined_by_and:
        # "In less than 3 days" implies "in more than 0 days".
        soon = {rule["attribute"] for rule in rules if rule.get("operator") == "in_less_than_days"}
        rules = [
            rule
            for rule in rules
            if not (rule.get("operator"), rule.get("value")) == ("in_more_than_days", 0)
            or rule["attribute"] not in soon
        ]
    if len(rules) == 1 and "rules" in rules[0] and "rules" not in stored[0]:
        return {**group, **rules[0]}
    return {**group, "rules": rules}


def is_past(rule: Node) -> bool:
    """Return whether a rule matches no future date."""
    return rule.get("operator") in ("more_than_days_ago", "exactly_days_ago") and rule["value"] >= 0


def is_future(rule: Node) -> bool:
    """Return whether a rule matches future dates only."""
    return rule.get("operator") == "less_than_days_ago" and rule["value"] <= 0


def rewritten_rule(rule: Node, *, past: set[str], future: set[str]) -> Node:
    """Return a rule, or a group, that matches the same dates. `past` and `future` limit the date already."""
    operator, days, attribute = rule.get("operator"), rule.get("value"), rule["attribute"]

    def one(operator: str, value: int) -> Node:
        return {"attribute": attribute, "operator": operator, "value": value}

    if operator not in AGO or not isinstance(days, int):
        return rule
    if operator == "less_than_days_ago" and days <= 0:
        return one("in_more_than_days", -days)
    if operator == "less_than_days_ago" and attribute not in past:
        return {"match": "any", "rules": [rule, one("in_more_than_days", 0)]}
    if operator == "more_than_days_ago" and days < 0 and attribute in future:
        return one("in_less_than_days", -days)
    if operator == "more_than_days_ago" and days < 0:
        earlier = [one("in_less_than_days", -days), one("less_than_days_ago", 1), one("more_than_days_ago", 0)]
        return {"match": "any", "rules": earlier}
    if operator == "exactly_days_ago" and days < 0:
        later = {"match": "none", "rules": [one("in_more_than_days", -days)]}
        return {"match": "all", "rules": [one("in_more_than_days", -days - 1), later]}
    return rule


def rewrite_rules(_apps: object, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audiences_audience DISABLE TRIGGER audience_locked_once_live")
        for owner, table in TABLES:
            cursor.execute(
                f"SELECT id, rules FROM {table} WHERE rules::text LIKE '%days_ago%' ORDER BY id"  # noqa: S608
            )
            for row_id, before in decoded(cursor.fetchall()):
                after = rewritten_group(before)
                if after != before:
                    values = [owner, row_id, Jsonb(before), Jsonb(after)]
                    cursor.execute(
                        "INSERT INTO audiences_rewrittenrules (owner, row_id, before, after) VALUES (%s, %s, %s, %s)",
                        values,
                    )
                    cursor.execute(f"UPDATE {table} SET rules = %s WHERE id = %s", [Jsonb(after), row_id])  # noqa: S608
        cursor.execute("ALTER TABLE audiences_audience ENABLE TRIGGER audience_locked_once_live")


def decoded(rows: list[tuple[int, Any]]) -> list[tuple[int, Node]]:
    """Return the rows with the JSON decoded; Django makes psycopg return it as text."""
    return [(row_id, json.loads(rules) if isinstance(rules, str) else rules) for row_id, rules in rows]


def restore_rules(_apps: object, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audiences_audience DISABLE TRIGGER audience_locked_once_live")
        for owner, table in TABLES:
            cursor.execute(
                f"UPDATE {table} t SET rules = r.before FROM audiences_rewrittenrules r"  # noqa: S608
                " WHERE r.owner = %s AND r.row_id = t.id AND t.rules = r.after",
                [owner],
            )
        cursor.execute("DELETE FROM audiences_rewrittenrules")
        cursor.execute("ALTER TABLE audiences_audience ENABLE TRIGGER audience_locked_once_live")


class Migration(migrations.Migration):
    dependencies = [("messaging", "0011_plain_recheck_column"), ("audiences", "0028_rewritten_rules")]

    operations = [migrations.RunPython(rewrite_rules, restore_rules)]
