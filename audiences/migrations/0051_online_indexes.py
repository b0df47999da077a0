"""Indexes for the search for customers, and for international addresses. They are created while customers are written."""

from django.db import migrations, models

NAME = "audiences_name_words(name)"
LATER_WORDS = {"second": (2, 2), "third": (3, 3), "fourth": (4, 4), "last": (-1, 5)}
NAME_INDEXES = {
    "customer_name_words": f"""(({NAME}) COLLATE "C") WHERE name <> ''""",
    **{
        f"customer_name_{name}_word": f"""((split_part({NAME}, ' ', {place}) || ' ' || {NAME}) COLLATE "C")
            WHERE split_part({NAME}, ' ', {count}) <> ''"""
        for name, (place, count) in LATER_WORDS.items()
    },
}
INTERNATIONAL = "(audiences_comparable_address(email)) WHERE email ~ '[^ -~]|xn--'"


def create_index(name: str, definition: str) -> list[str]:
    """Return the statements; an interrupted attempt leaves an invalid index, which the next one replaces."""
    return [
        f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        f"CREATE INDEX CONCURRENTLY {name} ON audiences_customer {definition}",
    ]


def replace_index(name: str, definition: str) -> list[str]:
    """Return the statements that create the new index before they drop the old one."""
    return [
        *create_index(f"{name}_new", definition),
        f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        f"ALTER INDEX {name}_new RENAME TO {name}",
    ]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("audiences", "0050_customer_search"),
    ]

    operations = [
        *(
            migrations.RunSQL(create_index(name, definition), [f"DROP INDEX CONCURRENTLY {name}"])
            for name, definition in NAME_INDEXES.items()
        ),
        migrations.RunSQL(
            create_index("customer_international_email", INTERNATIONAL),
            ["DROP INDEX CONCURRENTLY customer_international_email"],
            state_operations=[
                migrations.AddIndex(
                    model_name="customer",
                    index=models.Index(
                        models.Func(models.F("email"), function="audiences_comparable_address"),
                        condition=models.Q(("email__regex", "[^ -~]|xn--")),
                        name="customer_international_email",
                    ),
                ),
            ],
        ),
        migrations.RunSQL(
            replace_index("customer_email", "(email text_pattern_ops)"),
            replace_index("customer_email", "(email)"),
            state_operations=[
                migrations.RemoveIndex(model_name="customer", name="customer_email"),
                migrations.AddIndex(
                    model_name="customer",
                    index=models.Index(fields=["email"], name="customer_email", opclasses=["text_pattern_ops"]),
                ),
            ],
        ),
    ]
