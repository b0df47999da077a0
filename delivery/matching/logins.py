"""Logins between two rounds: a round judges them with the last-seen value from before the session (behaviour 4.16).

Visits match at once. REST, bulk jobs and imports only report that a customer was there, so the next round judges the
customer a second time, with the previous last-seen value.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from audiences.compiler import Condition
from delivery.eligibility.live_messages import Live

# Reports may come this late, and rounds may be this far apart; an older report is history, not a login.
LATE_REPORT, MAX_AGE = timedelta(hours=1), timedelta(hours=2)


def condition_with_logins(live: Live, *, last_matched_at: datetime | None, at: datetime) -> Condition:
    """Return the condition of a round: the rules as of now, or those of a login since the last round.

    The first match of a message judges everyone as of now only, as the preview does.
    """
    rules, login = live.compiled, live.login_condition
    if login is None or last_matched_at is None:
        return rules
    moments = [last_matched_at - LATE_REPORT, at - MAX_AGE]
    since = max(moments if live.went_live_at is None else [*moments, live.went_live_at])
    name = f"m{live.pk}_seen_since"
    return replace(
        rules,
        sql=f"(({rules.sql}) IS TRUE OR (c.last_seen_at > %({name})s::timestamptz AND {login.sql}))",
        params={**rules.params, name: since},
    )


def judged_last_seen_sql(live: Live) -> str:
    """Return SQL for the last-seen value with which the pair matched."""
    if live.login_condition is None:
        return "c.last_seen_at"
    return f"CASE WHEN {live.compiled.sql} THEN c.last_seen_at ELSE c.previous_last_seen_at END"
