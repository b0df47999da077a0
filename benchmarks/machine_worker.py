"""A Celery worker of `make machine-trial`: `python -m benchmarks.machine_worker --ahead SECONDS --lease SECONDS ...`.

It is the worker of the product but for two things. Its machine's clock is wrong by so many seconds: time_machine moves
every clock of this process and its forks that shows the time of day, and no other process sees that. And leases of
records are shorter, so that the trial need not wait five minutes.
"""

import argparse
import os
from datetime import UTC, datetime, timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ahead", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--lease", type=float, required=True, metavar="SECONDS")
    given, celery = parser.parse_known_args()
    if given.ahead:
        import time_machine

        time_machine.travel(datetime.now(UTC) + timedelta(seconds=given.ahead)).start()
    import django

    django.setup()
    from delivery.sending import claim

    claim.LEASE, claim.RENEWED_AFTER = timedelta(seconds=given.lease), timedelta(seconds=given.lease / 5)
    from config.celery import app

    app.worker_main(["worker", *celery])


if __name__ == "__main__":
    main()
