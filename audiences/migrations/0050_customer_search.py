"""The function for the search for customers by the start of a word in the name."""

from django.db import migrations

# It calls no other function, since indexes use it: a restored dump creates indexes with an empty search path.
CREATE_FUNCTION = """
CREATE OR REPLACE FUNCTION audiences_name_words(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT replace(lower(left(name, 100)), '-', ' ')
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ("audiences", "0040_comparable_addresses"),
    ]

    operations = [
        migrations.RunSQL([CREATE_FUNCTION], ["DROP FUNCTION audiences_name_words(text)"]),
    ]
