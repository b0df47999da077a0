"""States that a long run must reach: a simulation that never reaches them proves nothing about them."""

# A run of at least so many schedules fails if it misses a state.
RARE_STATES = 1_000
SOMETIMES = frozenset(
    {
        "killed",
        "dropped",
        "stopped",
        "slow",
        "killed between hand-over and settlement",
        "waited for a lock",
        "a merge of a claimed record",
        "an erasure of a claimed record",
        "a copy began during a pause",
        "two processes sent at once",
        "a visit showed a message",
        "gave up after a lost connection",
        "launched",
        "sent to the rest of a sample",
        "refused: WrongState",
        "sent",
        "failed: rejected",
        "failed: bounced",
    }
)
