"""States that runs must reach: a simulation that never reaches them proves nothing about them."""

from collections.abc import Collection

# States that nearly every run of at least 20 schedules reaches, and how many schedules it takes to reach the rare ones.
OFTEN_AFTER, SOMETIMES_AFTER = 20, 300
OFTEN = frozenset(
    {"killed", "dropped", "stopped", "slow", "waited for a lock", "two processes sent at once", "launched", "sent"}
)
SOMETIMES = OFTEN | {
    "killed between hand-over and settlement",
    "a merge of a claimed record",
    "an erasure of a claimed record",
    "a pause during a hand-over",
    "a copy began during a pause",
    "a visit showed a message",
    "a second GET did not match",
    "a wait for a lock timed out",
    "gave up after a lost connection",
    "sent to the rest of a sample",
    "refused: WrongState",
    "failed: rejected",
    "failed: bounced",
    "uncertain: lost_touch",
    "uncertain: worker_died",
    "skipped: same_inbox",
    "withdrawn: stopped",
    "withdrawn: left_company",
    "withdrawn: no_longer_matches",
    "waiting: cap",
    "quiet hours",
}


def missing_states(reached: Collection[str], *, schedules: int) -> list[str]:
    """Return the states that so many schedules should have reached."""
    if schedules >= SOMETIMES_AFTER:
        return sorted(SOMETIMES.difference(reached))
    return sorted(OFTEN.difference(reached)) if schedules >= OFTEN_AFTER else []
