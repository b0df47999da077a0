"""The file itself: kept in pieces of UTF-8, and read again from any record on."""

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction

from audiences.intake.attributes.fields import Refused, replace_unstorable
from audiences.intake.csv_import.columns import guess_targets, plain_cell
from audiences.models import Import, ImportChunk, ImportKind

CHUNK_SIZE = 1 << 20
MAX_COLUMNS = 300
SAMPLE_SIZE = 5
DELIMITERS = ",;\t|"
# What a spreadsheet writes above the columns to say what separates them.
SEPARATOR = re.compile(rf"sep=([{DELIMITERS}])", re.IGNORECASE)
QUOTED = re.compile(r'"[^"]*"')
# A record of no more lines and bytes is read; one that has not ended with twice as many is given up.
MAX_RECORD_LINES, MAX_RECORD_SIZE = 1_000, 2 * CHUNK_SIZE
# No line is that long; a file without line ends is not held in memory for it.
MAX_LINE_SIZE = 4 * CHUNK_SIZE
UNCLOSED_QUOTE = "A quote opens in this line and never closes."
TEXT_AFTER_QUOTE = "A quoted cell goes on after its closing quote. Write a quote inside a cell twice."
# Of a picture or a program many bytes are zero, of a text with a slip in it one or two.
MAX_ZERO_SHARE = 0.05
SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def encoding_of(file: IO[bytes]) -> str:
    """The encoding of a file: what its first bytes say, else UTF-8, else what old spreadsheets write."""
    file.seek(0)
    start = file.read(1024)
    if start.startswith(SPREADSHEET):
        raise Refused("This is a spreadsheet, not a CSV file. Save it as CSV first.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding, zeros in (("utf-16-le", start[1:4:2]), ("utf-16-be", start[0:4:2])):
        if zeros == b"\0\0":
            return encoding
    if start.count(0) > len(start) * MAX_ZERO_SHARE:
        raise Refused("This is not a CSV file: what is in it is no text.")
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while piece := file.read(CHUNK_SIZE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def store_upload(file: IO[bytes], *, name: str, kind: ImportKind, by: User | None, at: datetime) -> Import:
    """Keep a file, and look at its first lines; Refused where it is no CSV."""
    decoder = codecs.getincrementaldecoder(encoding_of(file))(errors="replace")
    file.seek(0)
    with transaction.atomic():
        job = Import.objects.create(
            kind=kind,
            file_name=replace_unstorable(name)[-255:] or "file.csv",
            started_by=by,
            created_at=at,
            updated_at=at,
        )
        while True:
            piece = file.read(CHUNK_SIZE)
            data = decoder.decode(piece, final=not piece).encode("utf-8", "replace")
            if data:
                store_chunk(job, data)
                job.size += len(data)
            if not piece:
                break
        inspect_header(job)
        job.save()
    return job


def store_chunk(job: Import, data: bytes) -> None:
    """Keep the next piece. By COPY: the driver remembers a hundred statements, each with all that is written in it."""
    into = ImportChunk._meta.db_table
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} (of_id, begins, data) FROM STDIN") as copy:
        copy.write_row((job.pk, job.size, data))


def inspect_header(job: Import) -> None:
    """Find the header and what separates the columns; Refused where there are none."""
    find_header(job)
    rows = []
    for record in read_records(job):
        rows.append([replace_unstorable(cell.strip()) for cell in record.cells])
        if record.wrong or len(rows) > SAMPLE_SIZE:
            break
        if len(rows) == 1:
            begins, line = record.ends, record.lines
    if not rows:
        raise Refused("This file is empty.")
    if not rows[0]:
        raise Refused("The first line cannot be read. It should name the columns.")
    if len(rows[0]) > MAX_COLUMNS:
        raise Refused(f"This file has {len(rows[0]):,} columns; {MAX_COLUMNS} at most can be read.")
    if job.kind == ImportKind.UNSUBSCRIBED and any("@" in cell for cell in rows[0]):
        job.columns = [f"Column {number}" for number in range(1, len(rows[0]) + 1)]
        job.targets = ["email" if "@" in cell else "" for cell in rows[0]]
        job.sample = rows[:SAMPLE_SIZE]
        return
    if any(is_email(cell) for cell in rows[0]):
        raise Refused(
            "The first line holds an email address where it should name the columns. Put their names above it."
        )
    if len(rows) == 1:
        raise Refused("This file has a line of column names and nothing below it.")
    job.columns = [cell[:255] or f"Column {number}" for number, cell in enumerate(rows[0], 1)]
    job.sample = rows[1:]
    job.position, job.lines = begins, line
    job.targets = guess_targets(job.columns)


def find_header(job: Import) -> None:
    """Go to the first line that says anything, and find what separates its columns."""
    delimiter, text = "", ""
    for raw in physical_lines(job, start=0):
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        said = SEPARATOR.fullmatch(text)
        if text.strip() and not said:
            break
        delimiter = said[1] if said else delimiter
        job.position += len(raw)
        job.lines += 1
    names = QUOTED.sub("", text)
    job.delimiter = delimiter or max(DELIMITERS, key=names.count)


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
        if len(held) > MAX_LINE_SIZE:
            yield held
            held = b""
    if held:
        yield held


class Record:
    """One record: where it begins, its cells, and where the file stands after it."""

    __slots__ = ("cells", "ends", "line", "lines", "wrong")

    def __init__(self, *, line: int, cells: list[str], ends: int, lines: int, wrong: str = "") -> None:
        self.line, self.cells, self.ends, self.lines, self.wrong = line, cells, ends, lines, wrong


class LineReader:
    """The lines of the file as text, where one stands among them, and those of the record that is being read.

    Where a record is given up, all its lines but the first are read again, each as the beginning of another. One that
    does not end where its line does goes on inside the same quote as the record before, and is given up as well: to
    follow it to the bound again would take the square of what a stranger writes.
    """

    def __init__(self, job: Import, *, ends: int, lines: int) -> None:
        self.raw = physical_lines(job, start=ends)
        self.ends, self.lines = ends, lines
        self.taken: list[bytes] = []
        self.size = 0
        self.again: deque[bytes] = deque()
        # Up to here it is known, and up to there it will be once this record is given up.
        self.endless = self.known = ends

    def begin(self) -> None:
        """Begin a record."""
        self.taken, self.size = [], 0

    def give_up(self) -> None:
        """Go back to where the record's first line ends."""
        self.endless = self.known
        for raw in reversed(self.taken[1:]):
            self.again.appendleft(raw)
            self.ends -= len(raw)
            self.lines -= raw.endswith((b"\n", b"\r"))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.taken:
            self.go_on()
        raw = self.again.popleft() if self.again else next(self.raw)
        self.taken.append(raw)
        self.size += len(raw)
        self.ends += len(raw)
        self.lines += raw.endswith((b"\n", b"\r"))
        return raw.decode("utf-8", "replace")

    def go_on(self) -> None:
        """See that the record, which did not end with its last line, may have another."""
        if self.ends <= self.endless or len(self.taken) >= 2 * MAX_RECORD_LINES or self.size >= 2 * MAX_RECORD_SIZE:
            raise csv.Error("it does not end")
        if len(self.taken) <= MAX_RECORD_LINES and self.size <= MAX_RECORD_SIZE:
            self.known = self.ends


def read_records(job: Import) -> Iterator[Record]:
    """The records of the file from where the import stands; empty lines are passed over."""
    place = LineReader(job, ends=job.position, lines=job.lines)
    reader: Any = csv.reader(place, delimiter=job.delimiter, strict=True)
    while True:
        line = place.lines + 1
        place.begin()
        try:
            cells = next(reader, None)
        except csv.Error as wrong:
            if "expected after" in str(wrong):
                more = f" It takes in the lines down to {place.lines:,}." if place.lines > line else ""
                says = f"{TEXT_AFTER_QUOTE}{more}"
            else:
                # What it would swallow are lines of their own: read on from the next.
                place.give_up()
                says = UNCLOSED_QUOTE
            yield Record(line=line, cells=[], ends=place.ends, lines=place.lines, wrong=says)
            continue
        if cells is None:
            return
        if any(cells):
            yield Record(
                line=line,
                cells=[plain_cell(cell) if cell[:1] == "'" else cell for cell in cells],
                ends=place.ends,
                lines=place.lines,
            )
