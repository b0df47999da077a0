"""Constraints and triggers of messages: the lock, and the order of states (behaviour 4.2)."""

from collections.abc import Sequence

import pgtrigger
from django.db import models

from messaging.models.choices import Channel, Checking, Format, SendType
from messaging.models.states import NEXT_STATES, NOT_YET_LIVE, State


def transitions_sql() -> str:
    """Return the allowed transitions as the VALUES list of a trigger."""
    allowed = [f"('{before}', '{after}')" for before, afters in NEXT_STATES.items() for after in afters]
    return ", ".join(allowed)


def columns_sql(row: str, columns: Sequence[str]) -> str:
    return f"({', '.join(f'{row}.{column}' for column in columns)})"


# A round updates every message, so a trigger runs only if one of its columns has changed.
LOCKED_COLUMNS = (
    *("went_live_at", "channel", "send_type", "per_company", "to_customer_id", "to_company_id", "audience_id"),
    *("only_new_matches", "topic_id"),
)

CONSTRAINTS: list[models.BaseConstraint] = [
    models.CheckConstraint(
        name="live_since_it_went_live",
        condition=models.Q(state__in=NOT_YET_LIVE, went_live_at=None)
        | (~models.Q(state__in=NOT_YET_LIVE) & models.Q(went_live_at__isnull=False)),
    ),
    models.CheckConstraint(
        name="format_is_for_in_app",
        condition=(models.Q(channel=Channel.IN_APP) & models.Q(format__in=Format.values))
        | (~models.Q(channel=Channel.IN_APP) & models.Q(format="")),
        violation_error_message="An in-app message is a chat or an announcement. Other channels have no format.",
    ),
    models.CheckConstraint(
        name="one_person_or_an_audience",
        condition=models.Q(to_customer=None, audience__isnull=False)
        | models.Q(to_customer__isnull=False, audience=None, send_type=SendType.ONE_OFF, per_company=False),
    ),
    models.CheckConstraint(
        name="only_one_off_is_scheduled_or_sampled",
        condition=models.Q(send_type=SendType.ONE_OFF)
        | (~models.Q(state__in=(State.SCHEDULED, State.SAMPLED, State.SENT)) & models.Q(sample_size=None)),
    ),
    models.CheckConstraint(
        name="scheduled_for_a_time",
        condition=~models.Q(state=State.SCHEDULED) | models.Q(scheduled_for__isnull=False),
    ),
    models.CheckConstraint(
        name="only_ongoing_waits_for_new_matches",
        condition=models.Q(only_new_matches=False) | models.Q(send_type=SendType.ONGOING),
    ),
    models.CheckConstraint(
        name="only_in_app_to_an_audience_ends",
        condition=models.Q(shown_until=None) | models.Q(channel=Channel.IN_APP, to_customer=None),
    ),
    models.CheckConstraint(
        name="only_an_audience_has_a_topic", condition=models.Q(topic=None) | models.Q(to_customer=None)
    ),
    models.CheckConstraint(
        name="only_paused_has_a_reason", condition=models.Q(paused_because="") | models.Q(state=State.PAUSED)
    ),
    models.CheckConstraint(name="state_is_known", condition=models.Q(state__in=State.values)),
    models.CheckConstraint(name="checking_is_known", condition=models.Q(checking__in=Checking.values)),
    models.CheckConstraint(name="channel_is_known", condition=models.Q(channel__in=Channel.values)),
    models.CheckConstraint(name="send_type_is_known", condition=models.Q(send_type__in=SendType.values)),
]
TRIGGERS = [
    pgtrigger.Trigger(
        name="locked_once_live",
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition(
            "OLD.went_live_at IS NOT NULL"
            f" AND {columns_sql('OLD', LOCKED_COLUMNS)} IS DISTINCT FROM {columns_sql('NEW', LOCKED_COLUMNS)}"
        ),
        func="""
                IF NEW.channel <> OLD.channel OR NEW.send_type <> OLD.send_type OR NEW.per_company <> OLD.per_company
                    OR (NEW.to_customer_id IS DISTINCT FROM OLD.to_customer_id
                        AND coalesce(current_setting('outbound.merging', true), '') <> 'on')
                    OR NEW.to_company_id IS DISTINCT FROM OLD.to_company_id
                    OR NEW.audience_id IS DISTINCT FROM OLD.audience_id
                    OR NEW.only_new_matches <> OLD.only_new_matches
                    OR NEW.topic_id IS DISTINCT FROM OLD.topic_id THEN
                    RAISE EXCEPTION 'This message has been live. How it sends can no longer be changed.'
                        USING ERRCODE = 'check_violation';
                END IF;
                IF NEW.went_live_at IS DISTINCT FROM OLD.went_live_at THEN
                    RAISE EXCEPTION 'When a message went live cannot be changed.' USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
    ),
    pgtrigger.Trigger(
        name="states_follow_each_other",
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition("OLD.state <> NEW.state"),
        func=f"""
                IF (OLD.state, NEW.state) NOT IN (VALUES {transitions_sql()}) THEN
                    RAISE EXCEPTION 'A message cannot go from % to %.', OLD.state, NEW.state
                        USING ERRCODE = 'check_violation';
                END IF;
                RETURN NEW;
                """,
    ),
    # The release before resumes and stops messages without knowing the reason.
    pgtrigger.Trigger(
        name="reason_ends_with_pause",
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition("OLD.state = 'paused' AND NEW.state <> 'paused' AND NEW.paused_because <> ''"),
        func="NEW.paused_because := ''; RETURN NEW;",
    ),
    pgtrigger.Trigger(
        name="kept_once_live",
        when=pgtrigger.Before,
        operation=pgtrigger.Delete,
        condition=pgtrigger.Condition("OLD.went_live_at IS NOT NULL"),
        func="""
                RAISE EXCEPTION 'This message has been live. It can be stopped, not deleted.'
                    USING ERRCODE = 'check_violation';
                """,
    ),
    pgtrigger.Trigger(
        name="what_visits_judge_changed",
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        condition=pgtrigger.Condition(
            "NEW.to_customer_id IS NULL"
            " AND (OLD.state IN ('live', 'sampled') OR NEW.state IN ('live', 'sampled'))"
            " AND (OLD.state, OLD.version_id, OLD.window, OLD.window_zone, OLD.during_quiet_hours, OLD.shown_until)"
            " IS DISTINCT FROM"
            " (NEW.state, NEW.version_id, NEW.window, NEW.window_zone, NEW.during_quiet_hours, NEW.shown_until)"
        ),
        func="""
                UPDATE audiences_workspace SET generation = generation + 1;
                RETURN NULL;
                """,
    ),
]
