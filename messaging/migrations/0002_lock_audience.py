"""Whom a message asks for is locked with it: a one-off's for good, an ongoing one's unless it is paused (behaviour 4.2).

The trigger sits on the audience's table but speaks of messages, so it is messaging that adds it.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION messaging_audience_locked() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE of_message record;
BEGIN
    SELECT send_type, state, went_live_at INTO of_message FROM messaging_message WHERE audience_id = OLD.id;
    IF of_message.went_live_at IS NOT NULL
        AND NOT (of_message.send_type = 'ongoing' AND of_message.state = 'paused') THEN
        RAISE EXCEPTION 'This message has been live. Whom it goes to can no longer be changed%.',
            CASE WHEN of_message.send_type = 'ongoing' THEN ' unless it is paused' ELSE '' END
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audience_locked_once_live BEFORE UPDATE OF rules ON audiences_audience
    FOR EACH ROW WHEN (OLD.rules IS DISTINCT FROM NEW.rules) EXECUTE FUNCTION messaging_audience_locked();
"""
BACKWARD = """
DROP TRIGGER audience_locked_once_live ON audiences_audience;
DROP FUNCTION messaging_audience_locked();
"""


class Migration(migrations.Migration):
    dependencies = [("messaging", "0001_initial"), ("audiences", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
