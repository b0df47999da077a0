"""Concurrency: how many copies a process keeps in flight to one server, found by its answers.

Emails per second = copies in flight / seconds per copy. The number starts at one and grows by one with each answer, so
it doubles with each round trip, as long as the server answers about as fast as before. It falls by a quarter if the
answers take much longer: then copies wait in the server, or for this process, and more of them only wait longer.
"""

import logging
import math
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Answers that are judged together: the shortest of them, as answers differ in length, but a server that is busy delays
# all of them.
WINDOW_SIZE = 8
# The number grows while the shortest answer takes at most so many times the best known, and shrinks beyond; plus some
# milliseconds, which the threads of a busy process wait for each other.
GROWS_UNTIL, SHRINKS_FROM, SLACK = 2.0, 4.0, 0.004
SHRINK_FACTOR = 0.75
# In seconds, about: what a process itself works for one copy. More connections than fit into a usual answer would wait
# for the process, and its threads for each other.
WORK_PER_COPY = 0.001
# In seconds. For how long the best answers are remembered: a server may become slower for good.
MEMORY = 30.0
# In seconds. It shrinks at most once in this time, so that the effect shows first.
SHRINK_INTERVAL = 1.0
# In seconds. After a refusal one more connection is tried each time.
RAISE_INTERVAL = 15.0


@dataclass(slots=True)
class Concurrency:
    """The number of connections to use now (`target`), at most `limit`."""

    limit: int
    name: str = ""
    wanted: int = 1
    answers: int = 0
    # How long an answer takes, as a moving average.
    usual: float = 0.0
    # The shortest answer since the last judgement, since `best_since`, and in the MEMORY seconds before.
    shortest: float = math.inf
    best: float = math.inf
    best_before: float = math.inf
    best_since: float = 0.0
    shrunk_at: float = -math.inf
    # The number that the server takes, as far as it is known, and since when.
    accepted: float = math.inf
    accepted_since: float = -math.inf

    @property
    def target(self) -> int:
        """The number of connections to use now."""
        useful = 2 + self.usual / WORK_PER_COPY if self.usual else math.inf
        return int(min(self.wanted, self.limit, self.accepted, useful))

    def record_refusal(self, *, at: float) -> None:
        """Record that the server refused a connection although it answers others: use a quarter fewer."""
        if at - self.accepted_since < SHRINK_INTERVAL:
            return
        self.accepted, self.accepted_since = max(1, int(self.target * SHRINK_FACTOR)), at
        log.warning("%s: the server refuses connections, so %s are used", self.name, self.target)

    def record_answer(self, seconds: float, *, at: float) -> None:
        """Record how long one answer took, `at` by `time.monotonic`."""
        if at - self.best_since >= MEMORY:
            self.best, self.best_before, self.best_since = math.inf, self.best, at
        if at - self.accepted_since >= RAISE_INTERVAL and self.accepted <= self.target:
            self.accepted, self.accepted_since = self.accepted + 1, at
        self.answers += 1
        self.usual += (seconds - self.usual) / WINDOW_SIZE if self.usual else seconds
        self.best, self.shortest = min(self.best, seconds), min(self.shortest, seconds)
        if self.target < WINDOW_SIZE and self.shrunk_at == -math.inf:
            # The first few are too few to judge.
            self.wanted = max(self.wanted, self.target + 1)
        if self.answers >= WINDOW_SIZE:
            self.judge(self.shortest, best=min(self.best, self.best_before), at=at)
            self.answers, self.shortest = 0, math.inf

    def judge(self, shortest: float, *, best: float, at: float) -> None:
        if shortest <= GROWS_UNTIL * best + SLACK:
            self.wanted = min(self.limit, max(self.wanted, self.target + WINDOW_SIZE))
        elif shortest > SHRINKS_FROM * best + SLACK and at - self.shrunk_at >= SHRINK_INTERVAL and self.target > 1:
            self.shrunk_at = at
            self.wanted = max(1, int(self.target * SHRINK_FACTOR))
            log.info(
                "%s: answers take at least %.0f ms instead of %.0f, so %s connections are used",
                *(self.name, shortest * 1000, best * 1000, self.wanted),
            )
