"""Sessions of customers and companies: the last-seen value from before a session, kept by a trigger (behaviour 4.16).

A session ends after 30 minutes without a sighting. Visits, REST, bulk jobs and imports all write `last_seen_at`, so a
trigger on it keeps the two other columns, and no code path bypasses it.
"""

from datetime import timedelta

import pgtrigger

SESSION_IDLE_TIMEOUT = timedelta(minutes=30)
SESSION_IDLE_TIMEOUT_SQL = f"interval '{SESSION_IDLE_TIMEOUT.total_seconds():.0f} seconds'"


def presence_trigger() -> pgtrigger.Trigger:
    """Return the trigger that keeps `previous_last_seen_at` and `present_since_at` true.

    An earlier moment than the stored one corrects it and begins no session.
    """
    return pgtrigger.Trigger(
        name="session_is_kept",
        when=pgtrigger.Before,
        operation=pgtrigger.Insert | pgtrigger.UpdateOf("last_seen_at"),
        # An import creates many customers who were never seen, for whom a call would change nothing.
        condition=pgtrigger.Condition(
            "NEW.last_seen_at IS NOT NULL OR NEW.previous_last_seen_at IS NOT NULL OR NEW.present_since_at IS NOT NULL"
        ),
        func=f"""
        IF TG_OP = 'INSERT' THEN
            NEW.previous_last_seen_at := NULL;
            NEW.present_since_at := NEW.last_seen_at;
        ELSIF NEW.last_seen_at IS NULL THEN
            NEW.previous_last_seen_at := NULL;
            NEW.present_since_at := NULL;
        ELSIF OLD.last_seen_at IS NULL OR NEW.last_seen_at > OLD.last_seen_at + {SESSION_IDLE_TIMEOUT_SQL} THEN
            NEW.previous_last_seen_at := OLD.last_seen_at;
            NEW.present_since_at := NEW.last_seen_at;
        ELSE
            NEW.previous_last_seen_at := CASE WHEN OLD.previous_last_seen_at > NEW.last_seen_at
                THEN NEW.last_seen_at ELSE OLD.previous_last_seen_at END;
            NEW.present_since_at := CASE WHEN OLD.present_since_at > NEW.last_seen_at
                THEN NEW.last_seen_at ELSE OLD.present_since_at END;
        END IF;
        RETURN NEW;
        """,
    )
