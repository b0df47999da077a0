"""Run the benchmarks and print one table: `python -m benchmarks [NAME ...]`."""

import os
import sys
from importlib import import_module

from config.postgres import embedded

NAMES = ("matching", "ping", "email_speed", "memory", "outbound_list", "importing", "throttle")


def main(wanted: list[str]) -> int:
    """Measure what is wanted, all of it where nothing is named."""
    if unknown := set(wanted) - set(NAMES):
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)  # Benchmarks empty their database: never somebody's own.
    with embedded.database("bench"):
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from benchmarks.measure import report

        rows = []
        for name in wanted or NAMES:
            print(f"measuring {name} ...", flush=True)
            rows += import_module(f"benchmarks.{name}").measure()
            table = report(rows)  # Written after each, so that what fails later costs none of them.
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
