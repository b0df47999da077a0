"""django-drip-campaigns: `python -m benchmarks.peers.drip_campaign FILE`.

FILE holds the email and the customers. For each line "fill" on its input it creates the customers as users and a drip
with two rules, for each line "go" it runs the drip; it answers both with the number of users or emails.
"""

# ruff: noqa: E402 - imports that need Django come after its set-up
import json
import sys
from pathlib import Path

import django

django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from drip.models import Drip, QuerySetRule, SentDrip


def fill(source: dict) -> int:
    """Create the customers as users, and a drip to the active ones who were seen in the last 60 days."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE auth_user, drip_drip CASCADE")
    User.objects.bulk_create(
        (
            User(
                username=customer["user_id"],
                email=customer["email"],
                first_name=customer["values"]["first_name"],
                # The table of users has no column for the plan, which the email names.
                last_name=customer["values"]["custom_attributes"]["plan"],
                is_active=customer["is_reachable"],
                last_login=customer["last_seen_at"],
                password="!",  # noqa: S106 - an unusable password
            )
            for customer in source["customers"]
        ),
        batch_size=1000,
    )
    drip = Drip.objects.create(
        name="welcome",
        enabled=True,
        from_email=source["sender_address"],
        from_email_name=source["sender_name"],
        subject_template=source["subject"],
        body_html_template=source["html"],
    )
    QuerySetRule.objects.create(drip=drip, field_name="is_active", lookup_type="exact", field_value="True")
    QuerySetRule.objects.create(drip=drip, field_name="last_login", lookup_type="gt", field_value="now-60 days")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE auth_user")
        cursor.execute("CHECKPOINT")
    return User.objects.count()


def go(_source: dict) -> int:
    call_command("send_drips")
    return SentDrip.objects.count()


def main(file: str) -> None:
    source = json.loads(Path(file).read_text())
    call_command("migrate", verbosity=0)
    print("ready", flush=True)
    for line in sys.stdin:
        print({"fill": fill, "go": go}[line.strip()](source), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
