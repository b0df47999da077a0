"""What this process has in hand, noted where a process that is killed leaves it.

That a batch is `sending` is committed before its first byte leaves. Which copy of it is at the door is noted here, in a
file of this machine: that takes microseconds, and a commit for each mail would take as long as the mail. Who is killed
cannot tidy up, but the kernel keeps what was written and lets go of the lock. So the next sweep on this machine knows
which copies had not begun, which were taken, and of which one nobody can know. Where the file is lost, or cannot be
trusted because the machine itself went down, the lease runs out instead, and the whole batch is uncertain.
"""

import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection

from audiences.intake.attributes.fields import storable

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BEGUN, TAKEN, NOT_TAKEN = "begun", "taken", "not-taken"


@dataclass(slots=True)
class AbandonedBatch:
    """What is known of a batch whose worker is gone: what it had begun, and what it knew the end of."""

    claim: UUID
    begun: set[int] = field(default_factory=set)
    taken: dict[int, str] = field(default_factory=dict)

    @property
    def in_doubt(self) -> set[int]:
        """Those of which nobody can know."""
        return self.begun - self.taken.keys()


@cache
def boot_id() -> str:
    """Tell this run of the machine from the last, of which the disk may have kept less than was written; "" unknown."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def database_name() -> str:
    """Tell the database of these records from others that processes of this machine may work on."""
    known = connection.get_connection_params()
    return f"{known.get('host', '')}:{known.get('port', '')}/{known.get('dbname', '')}"


class Journal:
    """The notes of one thread of this process. A note that cannot be written takes all notes away: better none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.owner = os.getpid()
        self.path = folder / f"{self.owner}-{secrets.token_hex(6)}.flight"
        made = self.path.with_suffix(".new")
        self.file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        made.rename(self.path)

    def note(self, words: str) -> None:
        """Add a line."""
        line = f"{words}\n".encode()
        try:
            whole = os.write(self.file, line) == len(line)
        except OSError:
            log.warning("what is in hand cannot be noted", exc_info=True)
            whole = False
        if not whole:
            self.path.unlink(missing_ok=True)

    def start_batch(self, claim: UUID) -> None:
        """Begin the notes of a batch, before it is committed as sending."""
        os.ftruncate(self.file, 0)
        self.note(f"{boot_id() or '-'} {claim} {database_name()}")

    def sending(self, pk: int) -> None:
        """Note that a copy is at the door."""
        self.note(f"{BEGUN} {pk}")

    def accepted(self, pk: int, provider_id: str) -> None:
        """Note that the channel took it."""
        self.note(f"{TAKEN} {pk} {' '.join(provider_id.split())}")

    def rejected(self, pk: int) -> None:
        """Note that the channel surely did not take it."""
        self.note(f"{NOT_TAKEN} {pk}")

    def is_mine(self) -> bool:
        """Whether it is this process's and still there; a fork has its parent's."""
        return self.owner == os.getpid() and self.path.exists()

    def leave(self) -> None:
        """Let go of it as the dead do: whoever sweeps reads it."""
        os.close(self.file)

    def close(self) -> None:
        """Take it away: nothing is in hand."""
        self.path.unlink(missing_ok=True)
        os.close(self.file)


class NoJournal:
    """Nothing can be noted on this machine, so a batch is uncertain as a whole."""

    def start_batch(self, claim: UUID) -> None:
        """Note nothing."""

    def sending(self, pk: int) -> None:
        """Note nothing."""

    def accepted(self, pk: int, provider_id: str) -> None:
        """Note nothing."""

    def rejected(self, pk: int) -> None:
        """Note nothing."""


class Own(threading.local):
    """This thread's notes, kept open across batches."""

    flight: Journal | None = None


OWN = Own()


@contextmanager
def journal_of(claim: UUID) -> Iterator[Journal | NoJournal]:
    """Have notes for one batch. Where the block fails, they are left for the sweep, as by somebody who died."""
    flight = start_journal(claim)
    try:
        yield flight
    except BaseException:
        if isinstance(flight, Journal):
            OWN.flight = None
            flight.leave()
        raise


def start_journal(claim: UUID) -> Journal | NoJournal:
    """Return this thread's notes, begun for a batch."""
    try:
        if OWN.flight is None or not OWN.flight.is_mine():
            OWN.flight = Journal(Path(settings.FLIGHTS_DIR))
        OWN.flight.start_batch(claim)
    except OSError:
        log.warning("what is in hand cannot be noted in %s", settings.FLIGHTS_DIR, exc_info=True)
        return NoJournal()
    return OWN.flight


def close() -> None:
    """Take this thread's notes away."""
    flight, OWN.flight = OWN.flight, None
    if flight is not None and flight.owner == os.getpid():
        flight.close()


def abandoned_batches() -> Iterator[AbandonedBatch]:
    """Read what the dead of this machine left, batch by batch; what the caller has dealt with is taken away."""
    folder = Path(settings.FLIGHTS_DIR)
    for path in sorted(folder.glob("*.flight")) if folder.is_dir() else []:
        with suppress(OSError):
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                head, *notes = os.pread(file, 1 << 20, 0).decode(errors="replace").split("\n")
                written_on, claim, of = [*head.split(" ", 2), "", "", ""][:3]
                if of == database_name():
                    # A last line without its end was cut off; what else is missing nobody can say.
                    is_whole = written_on == boot_id() and notes and notes[-1] == ""
                    if is_whole and (found := parse_journal(claim, notes[:-1])) is not None:
                        yield found
                    path.unlink()
                elif not head:
                    path.unlink()
            finally:
                os.close(file)


def parse_journal(claim: str, notes: list[str]) -> AbandonedBatch | None:
    """Make sense of the notes of one batch; None where they make none, as a disk may have it."""
    try:
        found = AbandonedBatch(UUID(claim))
        for words in notes:
            what, pk, provider_id = [*words.split(" ", 2), ""][:3]
            if what == BEGUN:
                found.begun.add(parse_record_id(pk))
            elif what == TAKEN:
                found.taken[parse_record_id(pk)] = storable(provider_id)
            else:
                found.begun.discard(parse_record_id(pk))
    except ValueError:
        log.warning("the notes of claim %s make no sense", claim)
        return None
    return found


def parse_record_id(text: str) -> int:
    """A key of a record; ValueError for what can be none."""
    found = int(text)
    if not 0 < found < 2**63:
        raise ValueError(text)
    return found
