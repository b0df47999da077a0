"""Graceful shutdown: a worker finishes the copy it is sending, settles, puts the rest back and claims no more."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from delivery import process

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def request_for_all() -> None:
    """Ask this process and its forks to claim no more."""
    process.shared_stop_flag[0] = 1


def is_requested() -> bool:
    """Return whether no new work should begin."""
    return bool(process.stop_signals) or process.shared_stop_flag[0] == 1


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Delay SIGTERM and Ctrl-C until the block has put down its work; a second signal takes effect at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def wait(number: int, _frame: FrameType | None) -> None:
        process.stop_signals.append(number)
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
        heard = process.stop_signals.copy()
        process.stop_signals.clear()
        if heard:
            signal.raise_signal(heard[0])
