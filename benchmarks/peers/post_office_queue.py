"""django-post_office: `python -m benchmarks.peers.post_office_queue FILE`.

FILE holds the email and the customers. For each line "fill" on its input it queues an email for each customer, for each
line "go" it sends the queue with two processes; it answers both with the number of emails.
"""

# ruff: noqa: E402 - imports that need Django come after its set-up
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import django

django.setup()

from django.core.management import call_command
from django.db import connection
from post_office import mail
from post_office.models import STATUS, Email, EmailTemplate

PROCESSES, QUEUED_TOGETHER = 2, 1000


def fill(source: dict) -> int:
    """Empty the queue, then queue an email for each customer, rendered on delivery."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE post_office_email, post_office_emailtemplate CASCADE")
    template = EmailTemplate.objects.create(
        name="welcome", subject=source["subject"], content=source["text"], html_content=source["html"]
    )
    customers = source["customers"]
    for first in range(0, len(customers), QUEUED_TOGETHER):
        mail.send_many(
            [
                {
                    "recipients": [customer["email"]],
                    "sender": source["sender"],
                    "template": template,
                    "context": customer["values"],
                    "headers": source["headers"],
                    "render_on_delivery": True,
                }
                for customer in customers[first : first + QUEUED_TOGETHER]
            ]
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE post_office_email")
        cursor.execute("CHECKPOINT")
    return Email.objects.filter(status=STATUS.queued).count()


def go(lock: str) -> int:
    """Send the queue, as the command `send_queued_mail --processes 2` does."""
    mail.send_queued_mail_until_done(lock, PROCESSES)
    return Email.objects.filter(status=STATUS.sent).count()


def main(file: str) -> None:
    source = json.loads(Path(file).read_text())
    call_command("migrate", verbosity=0)
    print("ready", flush=True)
    with TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(fill(source) if line.strip() == "fill" else go(f"{folder}/post_office"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
