"""Run the benchmarks and print one table: `python -m benchmarks [NAME ...]`."""

import os
import sys
from importlib import import_module

from config.postgres import embedded

NAMES = ("matching", "changes", "ping", "email_speed", "memory", "outbound_list", "importing", "throttle")


def main(wanted: list[str]) -> int:
    """Run the named benchmarks, or all; return the exit code."""
    if unknown := set(wanted) - set(NAMES):
        print(f"Unknown benchmark: {', '.join(sorted(unknown))}. Choose from {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)  # Benchmarks empty their database, so they use the embedded one only.
    with embedded.database("bench"):
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from benchmarks.measure import write_report

        rows = []
        for name in wanted or NAMES:
            print(f"measuring {name} ...", flush=True)
            rows += import_module(f"benchmarks.{name}").measure()
            table = write_report(rows)  # Written after each benchmark, so that a later failure loses no results.
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
