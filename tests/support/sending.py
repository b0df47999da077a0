"""One batch of a message, sent as a dispatcher does."""

from collections.abc import Callable
from datetime import datetime

from delivery.sending.dispatcher import Dispatcher
from messaging.models import Message


def send_one_batch(message: Message, *, clock: Callable[[], datetime]) -> bool:
    """Claim a batch of a message, send it and settle it. Return whether anything was claimed."""
    dispatcher = Dispatcher(clock=clock)
    try:
        claimed = dispatcher.claim(message)
        while dispatcher.batches:
            dispatcher.step()
    finally:
        dispatcher.close()
    return claimed
