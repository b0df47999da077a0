"""Concurrency: how many copies a process keeps in flight to one server, found by its answers and by trials."""

import logging
import math
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Answers that are judged together: the shortest of them, as answers differ in length, but a server that is busy delays
# all of them.
WINDOW_SIZE = 8
# In seconds, about: how long the threads of a busy process wait for each other, so no answer tells less about a server.
SLACK = 0.004
# The number grows while the shortest answer takes at most so many times the best known, and shrinks beyond.
GROWS_UNTIL, SHRINKS_FROM = 2.0, 4.0
SHRINK_FACTOR = 0.75
# In seconds, about: what a process itself works for one copy. It needs so many connections as fit into an answer; of
# more, only a trial shows whether they are of use.
WORK_PER_COPY = 0.0005
# In seconds: how long copies are counted, and when the next trial begins after one that failed: later each time.
COUNT_SECONDS, TRIAL_INTERVAL, TRIAL_MAX_INTERVAL = 0.3, 1.0, 30.0
# A trial of more connections succeeds if it has this part of the gain that was possible; one of fewer if this part of
# the copies per second remains.
TRIAL_GAIN, TRIAL_REST = 0.4, 0.95
# In seconds. For how long the best answers are remembered: a server may become slower for good.
MEMORY = 30.0
# In seconds. It shrinks at most once in this time, so that the effect shows first.
SHRINK_INTERVAL = 1.0
# In seconds. After a refusal one more connection is tried each time.
RAISE_INTERVAL = 15.0


@dataclass(slots=True)
class Concurrency:
    """How many copies a process keeps in flight to one server (`target`, at most `limit`), found by the answers.

    Emails per second = copies in flight / seconds per copy. The number starts at one and grows by one with each answer,
    so it doubles with each round trip, as long as the server answers about as fast as before and the process has time
    for more. It falls by a quarter if the answers take much longer: then copies wait in the server or for this process,
    and more would only wait longer. If a server answers at once, or its answers differ much, their length does not tell
    the number: more or fewer are tried now and then, and kept if the copies per second say so.
    """

    limit: int
    name: str = ""
    wanted: int = 1
    answers: int = 0
    # The shortest answer since the last judgement, since `best_since`, and in the MEMORY seconds before.
    shortest: float = math.inf
    best: float = math.inf
    best_before: float = math.inf
    best_since: float = 0.0
    # Whether the last of them took much longer than the best.
    is_slow: bool = False
    shrunk_at: float = -math.inf
    # The number that the server takes, as far as it is known, and since when.
    accepted: float = math.inf
    accepted_since: float = -math.inf
    # Copies per second, as last counted; the copies after the first one since `counted_since`.
    rate: float = 0.0
    counted: int = -1
    counted_since: float = -math.inf
    # A trial: the number before it, and the copies per second that it needs. Then when the next one begins, whether
    # it tries more, and the interval.
    before_trial: int = 0
    needed_rate: float = 0.0
    next_trial_at: float = -math.inf
    tries_more: bool = True
    trial_interval: float = TRIAL_INTERVAL

    @property
    def target(self) -> int:
        """The number of connections to use now."""
        return int(min(self.wanted, self.limit, self.accepted))

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
        self.best, self.shortest = min(self.best, seconds), min(self.shortest, seconds)
        if self.target < WINDOW_SIZE and self.shrunk_at == -math.inf and seconds > SLACK * (self.target + 1):
            # The first few are too few to judge.
            self.wanted = max(self.wanted, self.target + 1)
        if self.answers >= WINDOW_SIZE:
            self.judge_answers(at=at)
            self.answers, self.shortest = 0, math.inf
        self.count_copy(at=at)

    def judge_answers(self, *, at: float) -> None:
        """Use more connections if the server answers about as fast as ever, fewer if it has become slow."""
        best = min(self.best, self.best_before)
        self.is_slow = self.shortest > GROWS_UNTIL * best + SLACK
        if not self.is_slow:
            self.wanted = max(self.wanted, min(self.limit, self.target + WINDOW_SIZE, self.needed_connections))
        elif self.shortest > SHRINKS_FROM * best + SLACK and at - self.shrunk_at >= SHRINK_INTERVAL and self.target > 1:
            self.shrunk_at = at
            self.use(max(1, int(self.target * SHRINK_FACTOR)), at=at)
            log.info(
                "%s: answers take at least %.0f ms instead of %.0f, so %s connections are used",
                *(self.name, self.shortest * 1000, best * 1000, self.wanted),
            )

    @property
    def needed_connections(self) -> int:
        """How many connections a process surely keeps busy, as answers take so long."""
        best = min(self.best, self.best_before)
        return int(best / WORK_PER_COPY) if SLACK < best < math.inf else 1

    def use(self, number: int, *, at: float) -> None:
        """Use this number from now on, and end a trial. Copies are counted once the connections are open."""
        self.wanted, self.before_trial = number, 0
        self.counted, self.counted_since = -1, at + min(COUNT_SECONDS, 2 * min(self.best, self.best_before))

    def count_copy(self, *, at: float) -> None:
        """Count a copy. After a while judge the trial, or begin one."""
        if at < self.counted_since:
            return
        self.counted += 1
        if not self.counted:
            self.counted_since = at
            return
        took = at - self.counted_since
        if took < COUNT_SECONDS or self.counted < WINDOW_SIZE:
            return
        self.rate, self.counted, self.counted_since = self.counted / took, 0, at
        if self.before_trial:
            self.judge_trial(at=at)
        elif at >= self.next_trial_at:
            self.begin_trial(at=at)

    def begin_trial(self, *, at: float) -> None:
        """Try twice as many connections, or a quarter fewer."""
        now = self.target
        most = now if self.is_slow else int(min(self.limit, self.accepted))
        least = min(self.needed_connections, now)
        if now in (least, most):
            self.tries_more = now < most
        tried = min(2 * now, most) if self.tries_more else max(int(now * SHRINK_FACTOR), least)
        if tried == now:
            return
        gain = 1 + TRIAL_GAIN * (tried / now - 1) if tried > now else TRIAL_REST
        self.use(tried, at=at)
        self.before_trial, self.needed_rate = now, gain * self.rate

    def judge_trial(self, *, at: float) -> None:
        """Keep the tried number, and soon go on in this direction; or go back, and later try the other one."""
        if self.rate >= self.needed_rate:
            self.before_trial, self.trial_interval = 0, TRIAL_INTERVAL
            self.next_trial_at = at
            return
        self.use(self.before_trial, at=at)
        self.tries_more = not self.tries_more
        self.next_trial_at = at + self.trial_interval
        self.trial_interval = min(2 * self.trial_interval, TRIAL_MAX_INTERVAL)
