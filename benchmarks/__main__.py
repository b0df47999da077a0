"""Run the benchmarks, print one table and write docs/benchmarks.md: `python -m benchmarks [NAME ...]`."""

import os
import sys
import tempfile
from importlib import import_module

from benchmarks import peers
from config.postgres import embedded

NAMES = (
    *("matching", "changes", "ping", "email_speed", "latency", "memory", "outbound_list", "importing", "throttle"),
    *("peer_speed", "growth", "webhooks", "priority", "prompt", "launching", "search"),
)


def main(wanted: list[str]) -> int:
    """Run the named benchmarks, or all; return the exit code."""
    if unknown := set(wanted) - set(NAMES):
        print(f"Unknown benchmark: {', '.join(sorted(unknown))}. Choose from {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    chosen = wanted or NAMES
    if "peer_speed" in chosen and not peers.PYTHON.exists():
        print("peer_speed needs the other products. Run `make bench`, or name other benchmarks.", file=sys.stderr)
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.pop("DATABASE_URL", None)  # Benchmarks empty their database, so they use the embedded one only.
    with embedded.database("bench"), tempfile.TemporaryDirectory(prefix="bench-broker-") as broker:
        os.environ |= {"BROKER_DIR": broker, "CELERY_BROKER_URL": ""}
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        from benchmarks import document, machine
        from benchmarks.measure import text_table, write_results

        machine.commit()  # Of the programs that are measured: a run takes long.
        rows = []
        for name in chosen:
            print(f"measuring {name} ...", flush=True)
            rows += import_module(f"benchmarks.{name}").measure()
            document.write(write_results(rows))  # After each benchmark, so that a later failure loses no results.
        print(text_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
