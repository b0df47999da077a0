"""Indexes for the search for customers by the start of a word in the name, or the start of the address."""

from django.db import migrations, models

# It calls no other function, since indexes use it: a restored dump creates indexes with an empty search path.
CREATE_FUNCTION = """
CREATE FUNCTION audiences_name_words(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT replace(lower(left(name, 100)), '-', ' ')
$$
"""
NAME = "audiences_name_words(name)"
LATER_WORDS = {"second": (2, 2), "third": (3, 3), "fourth": (4, 4), "last": (-1, 5)}
CREATE_INDEXES = [
    f"""CREATE INDEX customer_name_words ON audiences_customer (({NAME}) COLLATE "C") WHERE name <> ''""",
    *(
        f"""CREATE INDEX customer_name_{name}_word ON audiences_customer
            ((split_part({NAME}, ' ', {place}) || ' ' || {NAME}) COLLATE "C")
            WHERE split_part({NAME}, ' ', {count}) <> ''"""
        for name, (place, count) in LATER_WORDS.items()
    ),
]
DROP_INDEXES = [f"DROP INDEX customer_name_{name}" for name in ("words", *(f"{name}_word" for name in LATER_WORDS))]


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0040_comparable_addresses"),
    ]

    operations = [
        migrations.RunSQL([CREATE_FUNCTION], ["DROP FUNCTION audiences_name_words(text)"]),
        migrations.RunSQL(CREATE_INDEXES, DROP_INDEXES),
        migrations.RemoveIndex(model_name="customer", name="customer_email"),
        migrations.AddIndex(
            model_name="customer",
            index=models.Index(fields=["email"], name="customer_email", opclasses=["text_pattern_ops"]),
        ),
    ]
