"""Tables of cases that share one set-up: each row finds the database as the test had made it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo the changes of the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
