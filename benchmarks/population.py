"""The generated customers, companies, tags and events of the benchmarks: the same in each run."""

from django.db import connection

INSERT_POPULATION = """
SET LOCAL session_replication_role = replica;
INSERT INTO audiences_workspace (id, name, zone, office_hours, postal_address, allowed_origins, identity_secret,
    require_user_hash, confirm_above, drift_percent, generation)
    VALUES (1, 'Bench', 'Europe/Dublin', '[]', '', '[]', 'secret', TRUE, 1000, 5, 1) ON CONFLICT DO NOTHING;
INSERT INTO audiences_customattribute (scope, name, kind, created_at) VALUES
    ('customer', 'plan', 'text', now()), ('customer', 'trial_ends_at', 'date', now()),
    ('company', 'seats', 'number', now());
INSERT INTO audiences_tag (name, created_at) SELECT 'tag ' || n, now() FROM generate_series(1, 20) n;
INSERT INTO audiences_company (id, company_id, name, plan, monthly_spend, size, industry, website, created_at,
    updated_at, session_count, attributes)
    SELECT n, 'c' || n, 'Company ' || n, (ARRAY['free', 'pro', 'team'])[1 + n % 3], n % 900, n % 500,
        (ARRAY['Retail', 'Health', 'Games'])[1 + n % 3], '', now(), now(), n % 40,
        jsonb_build_object('seats', n % 100)
    FROM generate_series(1, {companies}) n;
INSERT INTO audiences_customer (id, user_id, email, role, name, phone, created_at, updated_at, signed_up_at,
    first_seen_at, last_seen_at, session_started_at, session_count, unsubscribed_from_emails, has_hard_bounced,
    marked_email_as_spam, timezone, country, city, language, browser, os, user_agent, last_seen_ip, details, attributes)
    SELECT n, 'u' || n, 'user' || n || '@example.com', 'user', 'User ' || n, '', now(), now(),
        now() - make_interval(hours => n % 9000), now() - make_interval(hours => n % 9000),
        now() - make_interval(mins => ((n::bigint * 7919) % 90000)::int),
        now() - make_interval(mins => ((n::bigint * 7919) % 90000)::int),
        n % 60, n % 25 = 0, n % 200 = 0, FALSE, 'Europe/Dublin',
        (ARRAY['Ireland', 'France', 'Japan', 'Brazil'])[1 + n % 4], '', 'en', 'Chrome', 'Linux', '', '', '{{}}',
        jsonb_build_object('plan', (ARRAY['free', 'pro', 'team', 'trial'])[1 + (n / 7) % 4],
            'trial_ends_at', extract(epoch FROM now())::bigint + (n % 60 - 20) * 86400)
    FROM generate_series(1, {customers}) n;
INSERT INTO audiences_membership (customer_id, company_id, created_at)
    SELECT n, 1 + n % {companies}, now() FROM generate_series(1, {customers}) n WHERE n % 10 <> 0;
INSERT INTO audiences_membership (customer_id, company_id, created_at)
    SELECT n, 1 + (n + 17) % {companies}, now() FROM generate_series(1, {customers}) n WHERE n % 10 = 1;
INSERT INTO audiences_customertag (customer_id, tag_id, created_at)
    SELECT n, 1 + n % 20, now() FROM generate_series(1, {customers}) n WHERE n % 3 = 0;
INSERT INTO audiences_eventsummary (customer_id, name, count, first_at, last_at)
    SELECT n, 'event-' || k, 1 + n % 9, now() - interval '90 days', now() - make_interval(hours => n % 2000)
    FROM generate_series(1, {customers}) n CROSS JOIN generate_series(1, 3) k WHERE (n + k) % 2 = 0;
SELECT setval(pg_get_serial_sequence('audiences_customer', 'id'), {customers});
SELECT setval(pg_get_serial_sequence('audiences_company', 'id'), {companies});
"""
TABLES = (
    "audiences_workspace audiences_customattribute audiences_tag audiences_company audiences_customer"
    " audiences_membership audiences_customertag audiences_companytag audiences_eventsummary audiences_event"
    " delivery_deliveryrecord delivery_count delivery_countchange delivery_tally"
    " delivery_conversation delivery_conversationpart delivery_matchstate audiences_change messaging_message"
    " messaging_messageversion messaging_sender audiences_audience"
)


def create_population(*, customers: int, companies: int) -> None:
    """Empty the benchmark database and insert this many customers and companies."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES.split())} RESTART IDENTITY CASCADE")
        cursor.execute("BEGIN;" + INSERT_POPULATION.format(customers=customers, companies=companies) + "COMMIT;")
        cursor.execute("VACUUM ANALYZE")


def delete_records() -> None:
    """Delete all delivery records, so that each measured match starts from the same state."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE delivery_deliveryrecord, delivery_count, delivery_countchange, delivery_tally CASCADE")
        cursor.execute("CHECKPOINT")
