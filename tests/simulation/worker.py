"""One process of `make simulate`: runs every n-th seed and prints each result as a line of JSON."""

import argparse
import gc
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
    from tests.simulation.results import ResultFile
    from tests.simulation.schedule import Schedule

    database.switch_autovacuum_off()
    gc.disable()
    collect_garbage()
    if given.faults is not None:
        plant_faults(range(first, last + 1), given.faults, enough=given.enough, part=number, of=every)
        database.close_idle_sessions()
        return
    earlier = set(ResultFile(given.results).read(range(first, last + 1))) if given.results else set()
    for seed in [seed for seed in range(first, last + 1) if seed not in earlier][number::every]:
        result = Schedule(seed).run()
        collect_garbage()
        if given.twice and (difference := result.difference_from(Schedule(seed).run())):
            result.wrong.append(difference)
        facts = dict(vars(result))
        if not given.trace:
            del facts["trace"]
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    database.close_idle_sessions()


def collect_garbage() -> None:
    """Collect the garbage of a schedule. Nothing of what exists after that will ever be garbage."""
    gc.collect()
    gc.freeze()


def plant_faults(seeds: range, words: str, *, enough: int, part: int, of: int) -> None:
    """Run schedules with each planted fault whose name has these words, until so many have found it."""
    from tests.simulation.faults import FAULTS
    from tests.simulation.schedule import Schedule

    for name in [name for name in FAULTS if words in name][part::of]:
        found: dict[int, str] = {}
        tried = 0
        for seed in seeds:
            tried += 1
            collect_garbage()
            if wrong := Schedule(seed, FAULTS[name]).run().wrong:
                found[seed] = wrong[0]
            if len(found) == enough:
                break
        facts = {"fault": name, "seeds": list(found), "tried": tried, "words": next(iter(found.values()), "")}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
