"""Journal: a file in which a worker notes each copy that it begins to send, read after the worker was killed.

A batch is committed as `sending` before its first byte leaves. Its journal says which copies of it are being sent: each
sending thread adds a line before the first byte and one after the answer. A line takes microseconds, while a commit for
each email would take as long as the email. A killed worker cannot clean up, but the kernel keeps the lines and releases
the file lock. The next sweep on this machine then knows which copies had not begun, which were accepted, and which
ones, at most one for each connection, are uncertain. If the file is lost, or cannot be trusted because the machine went
down, the lease expires instead and the whole batch is uncertain.
"""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import connection

from audiences.intake.attributes.fields import replace_unstorable
from delivery import process

log = logging.getLogger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BEGUN, TAKEN, NOT_TAKEN = "begun", "taken", "not-taken"


@dataclass(slots=True)
class AbandonedBatch:
    """A batch of a dead worker: the records it had begun, and those the channel accepted with the provider's id."""

    claim: UUID
    begun: set[int] = field(default_factory=set)
    taken: dict[int, str] = field(default_factory=dict)

    @property
    def in_doubt(self) -> set[int]:
        """Records that were begun without a known answer."""
        return self.begun - self.taken.keys()


@cache
def boot_id() -> str:
    """Return the id of this boot; "" if unknown. After a crash the disk may hold less than was written."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def database_name() -> str:
    """Name the database of these records: processes of this machine may work on several."""
    known = connection.get_connection_params()
    return f"{known.get('host', '')}:{known.get('port', '')}/{known.get('dbname', '')}"


class Journal:
    """A journal of a batch. If a line cannot be written, the file is removed: none is better than a wrong one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.owner = os.getpid()
        self.is_lost = False
        # Files end in ".flight" because 0.1.0 wrote them so, and a later version settles them.
        self.path = folder / f"{self.owner}-{secrets.token_hex(6)}.flight"
        made = self.path.with_suffix(".new")
        self.file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        made.rename(self.path)

    def write_line(self, words: str) -> None:
        if self.is_lost:
            return
        line = f"{words}\n".encode()
        try:
            whole, why = os.write(self.file, line) == len(line), "the disk is full"
        except OSError as wrong:
            whole, why = False, str(wrong)
        if not whole:
            # Once for a batch, not for each of its copies.
            self.is_lost = True
            log.warning("the journal %s cannot be written, so its batch is uncertain after a kill: %s", self.path, why)
            self.path.unlink(missing_ok=True)

    def start_batch(self, claim: UUID) -> None:
        """Start the lines of a batch, before it is committed as sending."""
        os.ftruncate(self.file, 0)
        self.write_line(f"{boot_id() or '-'} {claim} {database_name()}")

    def sending(self, pk: int) -> None:
        """Note that a copy is about to be sent."""
        self.write_line(f"{BEGUN} {pk}")

    def accepted(self, pk: int, provider_id: str) -> None:
        """Note that the channel accepted a copy."""
        self.write_line(f"{TAKEN} {pk} {' '.join(provider_id.split())}")

    def rejected(self, pk: int) -> None:
        """Note that the channel surely did not take a copy."""
        self.write_line(f"{NOT_TAKEN} {pk}")

    def is_usable(self) -> bool:
        """Return whether this process owns the file (a fork has its parent's) and it is still there."""
        return self.owner == os.getpid() and self.path.exists()

    def release(self) -> None:
        """Keep the file for the next batch: this one is settled, and no thread writes to it any more."""
        process.free_journals.append(self)

    def abandon(self) -> None:
        """Let go of the file as a dying process does, so that the next sweep reads it. No thread may write to it."""
        os.close(self.file)

    def close(self) -> None:
        """Remove the file, unless it is the parent's: no copy is being sent."""
        if self.owner == os.getpid():
            self.path.unlink(missing_ok=True)
            os.close(self.file)


class NoJournal:
    """Stands in where no journal can be written; a killed worker's batch is then uncertain as a whole."""

    def start_batch(self, claim: UUID) -> None:
        """Do nothing."""

    def sending(self, pk: int) -> None:
        """Do nothing."""

    def accepted(self, pk: int, provider_id: str) -> None:
        """Do nothing."""

    def rejected(self, pk: int) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


def start_journal(claim: UUID) -> Journal | NoJournal:
    """Return a journal, started for a batch. `release` gives it to the next batch."""
    try:
        while process.free_journals:
            journal = process.free_journals.pop()
            if journal.is_usable():
                break
        else:
            journal = Journal(Path(settings.FLIGHTS_DIR))
        journal.start_batch(claim)
    except OSError:
        log.warning("no journal can be written in %s", settings.FLIGHTS_DIR, exc_info=True)
        return NoJournal()
    return journal


def abandoned_batches() -> Iterator[AbandonedBatch]:
    """Yield the batches in the journals of this machine's dead workers. Each file is removed after its batch."""
    folder = Path(settings.FLIGHTS_DIR)
    for path in sorted(folder.glob("*.flight")) if folder.is_dir() else []:
        with suppress(OSError):
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                head, *notes = os.pread(file, 1 << 20, 0).decode(errors="replace").split("\n")
                written_on, claim, database = [*head.split(" ", 2), "", "", ""][:3]
                if database == database_name():
                    # A last line without its end was cut off, so more may be missing.
                    is_whole = written_on == boot_id() and notes and notes[-1] == ""
                    if is_whole and (found := parse_journal(claim, notes[:-1])) is not None:
                        yield found
                    path.unlink()
                elif not head:
                    path.unlink()
            finally:
                os.close(file)


def parse_journal(claim: str, notes: list[str]) -> AbandonedBatch | None:
    """Parse the lines of one batch; None if they are damaged."""
    try:
        found = AbandonedBatch(UUID(claim))
        for line in notes:
            event, pk, provider_id = [*line.split(" ", 2), ""][:3]
            if event == BEGUN:
                found.begun.add(parse_record_id(pk))
            elif event == TAKEN:
                found.taken[parse_record_id(pk)] = replace_unstorable(provider_id)
            else:
                found.begun.discard(parse_record_id(pk))
    except ValueError:
        log.warning("the journal of claim %s is damaged", claim)
        return None
    return found


def parse_record_id(text: str) -> int:
    """Parse a record's primary key; ValueError if it cannot be one."""
    found = int(text)
    if not 0 < found < 2**63:
        raise ValueError(text)
    return found
