"""One process of `make simulate`: runs every n-th seed and prints each result as a line of JSON."""

import argparse
import json
import logging
import sys

import django


def run_part(given: argparse.Namespace) -> None:
    """Run the seeds of this process."""
    first, last = (int(part) for part in given.seeds.split("-"))
    number, every = (int(part) for part in given.part.split("/"))
    django.setup()
    logging.disable(logging.CRITICAL)
    from tests.simulation import database
    from tests.simulation.schedule import Schedule

    database.switch_autovacuum_off()
    for seed in range(first + number, last + 1, every):
        result = Schedule(seed).run()
        if given.twice and (again := Schedule(seed).run()).trace != result.trace:
            pairs = enumerate(zip(result.trace, again.trace, strict=False))
            place, pair = next(((n, pair) for n, pair in pairs if pair[0] != pair[1]), (-1, ("", "")))
            result.wrong.append(f"the traces differ from event {place}: {pair[0][:150]} / {pair[1][:150]}")
        facts = dict(vars(result))
        if not given.trace:
            del facts["trace"]
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    database.close_idle_sessions()
