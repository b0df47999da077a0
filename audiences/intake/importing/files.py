"""The file itself: kept in pieces of UTF-8, and read again from any record on."""

import codecs
import csv
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction

from audiences.intake.importing.columns import guess, plain_cell
from audiences.intake.values import Refused, storable
from audiences.models import Import, ImportChunk, ImportKind

PIECE = 1 << 20
MOST_COLUMNS = 300
SHOWN_RECORDS = 5
DELIMITERS = ",;\t|"
SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def encoding_of(file: IO[bytes]) -> str:
    """The encoding of a file: what its first bytes say, else UTF-8, else what old spreadsheets write."""
    file.seek(0)
    start = file.read(4)
    if start.startswith(SPREADSHEET):
        raise Refused("This is a spreadsheet, not a CSV file. Save it as CSV first.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while piece := file.read(PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def take(file: IO[bytes], *, name: str, kind: ImportKind, by: User | None, at: datetime) -> Import:
    """Keep a file, and look at its first lines; Refused where it is no CSV."""
    decoder = codecs.getincrementaldecoder(encoding_of(file))(errors="replace")
    file.seek(0)
    with transaction.atomic():
        job = Import.objects.create(
            kind=kind, file_name=storable(name)[-255:] or "file.csv", started_by=by, created_at=at, updated_at=at
        )
        while True:
            piece = file.read(PIECE)
            data = decoder.decode(piece, final=not piece).encode("utf-8", "replace")
            if data:
                keep(job, data)
                job.size += len(data)
            if not piece:
                break
        look_at(job)
        job.save()
    return job


def keep(job: Import, data: bytes) -> None:
    """Keep the next piece. By COPY: the driver remembers a hundred statements, each with all that is written in it."""
    into = ImportChunk._meta.db_table
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} (of_id, begins, data) FROM STDIN") as copy:
        copy.write_row((job.pk, job.size, data))


def look_at(job: Import) -> None:
    """Find the header and what separates the columns; Refused where there are none."""
    first = next(physical_lines(job, start=0), b"").decode("utf-8", "replace")
    job.delimiter = max(DELIMITERS, key=first.count)
    rows = []
    for record in records(job):
        rows.append([cell.strip() for cell in record.cells])
        if record.wrong or len(rows) > SHOWN_RECORDS:
            break
        if len(rows) == 1:
            begins, line = record.ends, record.lines
    if not rows:
        raise Refused("This file is empty.")
    if len(rows[0]) > MOST_COLUMNS:
        raise Refused(f"This file has {len(rows[0]):,} columns; {MOST_COLUMNS} at most can be read.")
    if job.kind == ImportKind.UNSUBSCRIBED and any(is_email(cell) for cell in rows[0]):
        job.columns = [f"Column {number}" for number in range(1, len(rows[0]) + 1)]
        job.targets = ["email" if is_email(cell) else "" for cell in rows[0]]
        job.sample = rows[:SHOWN_RECORDS]
        return
    if len(rows) == 1:
        raise Refused("This file has a line of column names and nothing below it.")
    job.columns = [storable(cell)[:255] or f"Column {number}" for number, cell in enumerate(rows[0], 1)]
    job.sample = rows[1:]
    job.position, job.lines = begins, line
    job.targets = guess(job.columns)


def is_email(value: str) -> bool:
    """Whether it reads as an address."""
    try:
        validate_email(value)
    except ValidationError:
        return False
    return True


def physical_lines(job: Import, *, start: int) -> Iterator[bytes]:
    """The lines of the file from a byte on, with their ends; a piece is read at a time."""
    at, held = start, b""
    while True:
        piece = job.chunks.filter(begins__lte=at).order_by("-begins").values_list("begins", "data").first()
        data = bytes(piece[1])[at - piece[0] :] if piece else b""
        if not data:
            break
        at += len(data)
        *whole, held = (held + data).splitlines(keepends=True)
        yield from whole
    if held:
        yield held


class Record:
    """One record: where it begins, its cells, and where the file stands after it."""

    __slots__ = ("cells", "ends", "line", "lines", "wrong")

    def __init__(self, *, line: int, cells: list[str], ends: int, lines: int, wrong: str = "") -> None:
        self.line, self.cells, self.ends, self.lines, self.wrong = line, cells, ends, lines, wrong


def records(job: Import) -> Iterator[Record]:
    """The records of the file from where the import stands; empty lines are passed over."""
    ends, lines = job.position, job.lines

    def counted() -> Iterator[str]:
        nonlocal ends, lines
        for raw in physical_lines(job, start=job.position):
            ends += len(raw)
            lines += 1
            yield raw.decode("utf-8", "replace")

    reader: Any = csv.reader(counted(), delimiter=job.delimiter)
    while True:
        line = lines + 1
        try:
            cells = next(reader, None)
        except csv.Error as wrong:
            yield Record(line=line, cells=[], ends=ends, lines=lines, wrong=f"This line cannot be read: {wrong}.")
            continue
        if cells is None:
            return
        if any(cells):
            yield Record(
                line=line,
                cells=[plain_cell(cell) if cell[:1] == "'" else cell for cell in cells],
                ends=ends,
                lines=lines,
            )
