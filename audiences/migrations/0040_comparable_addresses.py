"""Compare the addresses of the suppression list in one form: a domain in Unicode equals its ASCII form (`xn--…`)."""

import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

# One function without calls of others, since an index uses it: a restored dump creates indexes with an empty search path.
# Labels are decoded as in RFC 3492. A label that is malformed stays as it is.
CREATE_COMPARABLE = """
CREATE FUNCTION audiences_comparable_address(address text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    comparable text := rtrim(lower(btrim(address) COLLATE "C"), '.');
    local_part text;
    label text;
    decoded text;
    encoded text;
    labels text[] := '{}';
    bias int;
    code int;
    place bigint;
    weight bigint;
    delta bigint;
    digit int;
    step int;
    threshold int;
    reader int;
    is_first boolean;
BEGIN
    IF octet_length(comparable) = length(comparable) AND position('xn--' IN comparable) = 0 THEN
        RETURN comparable;
    END IF;
    comparable := normalize(comparable, NFC);
    local_part := coalesce(substring(comparable FROM '^.*@'), '');
    comparable := rtrim(translate(substr(comparable, length(local_part) + 1), chr(12290) || chr(65294) || chr(65377), '...'), '.');
    FOREACH label IN ARRAY string_to_array(comparable, '.') LOOP
        IF left(label, 4) <> 'xn--' OR length(label) > 63 OR octet_length(label) <> length(label) THEN
            labels := labels || label;
            CONTINUE;
        END IF;
        encoded := substr(label, 5);
        reader := strpos(reverse(encoded), '-');
        decoded := CASE WHEN reader = 0 THEN '' ELSE left(encoded, length(encoded) - reader) END;
        encoded := CASE WHEN reader = 0 THEN encoded ELSE right(encoded, reader - 1) END;
        reader := 1;
        code := 128;
        place := -1;
        bias := 72;
        is_first := TRUE;
        WHILE decoded IS NOT NULL AND reader <= length(encoded) LOOP
            delta := 0;
            weight := 1;
            step := 36;
            LOOP
                digit := strpos('abcdefghijklmnopqrstuvwxyz0123456789', substr(encoded, reader, 1)) - 1;
                -- The end of the label too has no digit. No valid label has a larger number.
                IF reader > length(encoded) OR digit < 0 OR delta > 100000000 THEN
                    decoded := NULL;
                    EXIT;
                END IF;
                reader := reader + 1;
                threshold := greatest(1, least(26, step - bias));
                delta := delta + digit * weight;
                EXIT WHEN digit < threshold;
                weight := weight * (36 - threshold);
                step := step + 36;
            END LOOP;
            EXIT WHEN decoded IS NULL;
            place := place + delta + 1;
            IF code + place / (length(decoded) + 1) > 1114111 THEN
                decoded := NULL;
                EXIT;
            END IF;
            code := code + place / (length(decoded) + 1);
            place := place % (length(decoded) + 1);
            IF code BETWEEN 55296 AND 57343 THEN
                decoded := NULL;
                EXIT;
            END IF;
            decoded := overlay(decoded PLACING chr(code) FROM place::int + 1 FOR 0);
            -- The bias adapts as in RFC 3492, section 6.1.
            delta := delta / CASE WHEN is_first THEN 700 ELSE 2 END;
            is_first := FALSE;
            delta := delta + delta / length(decoded);
            bias := 0;
            WHILE delta > 455 LOOP
                delta := delta / 35;
                bias := bias + 36;
            END LOOP;
            bias := bias + 36 * delta / (delta + 38);
        END LOOP;
        labels := labels || coalesce(normalize(decoded, NFC), label);
    END LOOP;
    RETURN local_part || array_to_string(labels, '.');
END
$$
"""
# The function with the key keeps its text. Hashes of plain addresses stay the same.
WRAP_HASH = """
ALTER FUNCTION audiences_address_hash(text) RENAME TO audiences_keyed_hash;
CREATE FUNCTION audiences_address_hash(address text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT audiences_keyed_hash(audiences_comparable_address(address)) $$
"""
UNWRAP_HASH = """
DROP FUNCTION audiences_address_hash(text);
ALTER FUNCTION audiences_keyed_hash(text) RENAME TO audiences_address_hash
"""
# Of two active entries for two spellings of an address the older one stays. The triggers would refuse a new hash, and
# clear the flags of customers.
REHASH = """
ALTER TABLE audiences_suppression DISABLE TRIGGER USER;
WITH entries AS (
    SELECT s.id, row_number() OVER (
        PARTITION BY audiences_address_hash(s.address), s.reason ORDER BY s.created_at, s.id) AS place
    FROM audiences_suppression s
    WHERE s.lifted_at IS NULL AND s.address IS NOT NULL
        AND audiences_comparable_address(s.address) IN (
            SELECT audiences_comparable_address(o.address) FROM audiences_suppression o WHERE o.address ~ '[^ -~]|xn--')
)
UPDATE audiences_suppression s SET lifted_at = now(), detail = concat_ws('; ', nullif(s.detail, ''),
    'replaced by the entry for the other spelling of this address')
FROM entries e WHERE e.id = s.id AND e.place > 1;
UPDATE audiences_suppression s SET address_hash = audiences_address_hash(s.address) WHERE s.address ~ '[^ -~]|xn--';
ALTER TABLE audiences_suppression ENABLE TRIGGER USER;
"""
# The update only starts the trigger that sets the flags.
FLAG_CUSTOMERS = """
UPDATE audiences_customer c SET email = c.email FROM audiences_suppression s
WHERE s.lifted_at IS NULL AND s.address_hash = audiences_address_hash(c.email) AND c.id IN (
    SELECT id FROM audiences_customer WHERE email ~ '[^ -~]|xn--'
    UNION SELECT o.id FROM audiences_customer o JOIN audiences_suppression e
        ON o.email = audiences_comparable_address(e.address) AND e.address ~ '[^ -~]|xn--')
"""
UNHASH = """
ALTER TABLE audiences_suppression DISABLE TRIGGER USER;
UPDATE audiences_suppression s SET address_hash = audiences_address_hash(s.address) WHERE s.address ~ '[^ -~]|xn--';
ALTER TABLE audiences_suppression ENABLE TRIGGER USER
"""


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0031_suppression"),
    ]

    operations = [
        migrations.RunSQL([CREATE_COMPARABLE], ["DROP FUNCTION audiences_comparable_address(text)"]),
        migrations.RunSQL([WRAP_HASH], [UNWRAP_HASH + ";" + UNHASH]),
        pgtrigger.migrations.RemoveTrigger(
            model_name='suppression',
            name='customers_are_flagged',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='suppression',
            name='customers_are_cleared',
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='suppression',
            trigger=pgtrigger.compiler.Trigger(name='customers_are_flagged', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n                UPDATE audiences_customer c SET email = c.email, updated_at = s.created_at\n                FROM (SELECT address, reason, created_at FROM new_rows WHERE lifted_at IS NULL) AS s\n                WHERE (c.email = audiences_comparable_address(s.address) OR (c.email ~ '[^ -~]|xn--' AND audiences_comparable_address(c.email) = audiences_comparable_address(s.address)))\n                    AND NOT ((CASE s.reason WHEN 'opt_out' THEN c.unsubscribed_from_emails WHEN 'hard_bounce' THEN c.has_hard_bounced WHEN 'complaint' THEN c.marked_email_as_spam END) AND (s.reason <> 'opt_out'\n                    OR c.unsubscribed_by_customer_at IS NOT NULL OR c.opt_out_is_of_address));\n                RETURN NULL;\n                ", hash='2f4679c8ec284a7c67e6cfb6cf5057c7bd18b759', level='STATEMENT', operation='INSERT', pgid='pgtrigger_customers_are_flagged_7a92b', referencing='REFERENCING NEW TABLE AS new_rows ', table='audiences_suppression', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='suppression',
            trigger=pgtrigger.compiler.Trigger(name='customers_are_cleared', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD.lifted_at IS NULL AND NEW.lifted_at IS NOT NULL)', declare='DECLARE found text;', func="\n                found := NEW.address;\n                IF found IS NULL THEN\n                    SELECT c.email INTO found FROM audiences_customer c\n                    WHERE audiences_address_hash(c.email) = NEW.address_hash LIMIT 1;\n                END IF;\n                UPDATE audiences_customer c SET updated_at = NEW.lifted_at,\n                    unsubscribed_from_emails = c.unsubscribed_from_emails AND NEW.reason <> 'opt_out',\n                    unsubscribed_by_customer_at =\n                        CASE WHEN NEW.reason <> 'opt_out' THEN c.unsubscribed_by_customer_at END,\n                    opt_out_is_of_address = c.opt_out_is_of_address AND NEW.reason <> 'opt_out',\n                    complaint_is_of_address = c.complaint_is_of_address AND NEW.reason <> 'complaint',\n                    has_hard_bounced = c.has_hard_bounced AND NEW.reason <> 'hard_bounce',\n                    marked_email_as_spam = c.marked_email_as_spam AND NEW.reason <> 'complaint'\n                FROM (VALUES (NEW.reason)) AS s (reason)\n                WHERE (c.email = audiences_comparable_address(found) OR (c.email ~ '[^ -~]|xn--' AND audiences_comparable_address(c.email) = audiences_comparable_address(found))) AND (CASE s.reason WHEN 'opt_out' THEN c.unsubscribed_from_emails WHEN 'hard_bounce' THEN c.has_hard_bounced WHEN 'complaint' THEN c.marked_email_as_spam END);\n                RETURN NULL;\n                ", hash='66cfddc2f0145418356fe3acedd7791ff76ff905', operation='UPDATE OF "lifted_at"', pgid='pgtrigger_customers_are_cleared_53072', table='audiences_suppression', when='AFTER')),
        ),
        migrations.RunSQL([REHASH, FLAG_CUSTOMERS], migrations.RunSQL.noop),
    ]
