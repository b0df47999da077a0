"""Asked to end: whoever hands over finishes the copy in hand, settles, puts the rest back, and takes no more."""

import mmap
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# One byte that a process shares with those it forks: Celery's worker tells its pool so.
ALL = mmap.mmap(-1, 1)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
here: list[int] = []


def request_for_all() -> None:
    """Ask this process, and all that were forked from it, to take no more in hand."""
    ALL[0] = 1


def is_requested() -> bool:
    """Whether nothing more should be begun."""
    return bool(here) or ALL[0] == 1


def reset() -> None:
    """Begin again."""
    here.clear()
    ALL[0] = 0


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Have SIGTERM and Ctrl-C wait until the block has put down what it had in hand; the second one waits no more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def wait(number: int, _frame: FrameType | None) -> None:
        here.append(number)
        restore()

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    for number in STOP_SIGNALS:
        handler = signal.getsignal(number)
        if handler not in (signal.SIG_IGN, None):
            before[number] = handler
            signal.signal(number, wait)
    try:
        yield
    finally:
        restore()
        heard = here.copy()
        here.clear()
        if heard:
            signal.raise_signal(heard[0])
