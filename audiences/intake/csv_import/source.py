"""The uploaded file, stored in UTF-8 chunks and read again from any record."""

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
from django.db.models import BinaryField, F, Func, IntegerField, Value
from django.db.models.functions import Cast

from audiences.intake.attributes.fields import Refused, replace_unstorable
from audiences.intake.csv_import.columns import guess_targets, plain_cell
from audiences.models import Import, ImportChunk, ImportKind

CHUNK_SIZE = 1 << 20
# A slice of an import needs less than a chunk.
READ_SIZE = 1 << 19
MAX_COLUMNS = 300
SAMPLE_SIZE = 5
DELIMITERS = ",;\t|"
# Spreadsheets write this line above the header to name the delimiter.
SEPARATOR = re.compile(rf"sep=([{DELIMITERS}])", re.IGNORECASE)
QUOTED = re.compile(r'"[^"]*"')
# A record may have so many lines and bytes. The reader gives up one that has not ended after twice as many.
MAX_RECORD_LINES, MAX_RECORD_SIZE = 1_000, 2 * CHUNK_SIZE
# Longer lines are cut, so that a file without line ends does not fill the memory.
MAX_LINE_SIZE = 4 * CHUNK_SIZE
UNCLOSED_QUOTE = "A quoted cell starts on this line and never ends. Add the closing quote."
TEXT_AFTER_QUOTE = "There is text after the closing quote of a cell. Write a quote inside a quoted cell twice."
# Images and programs have many zero bytes, a damaged text one or two.
MAX_ZERO_SHARE = 0.05
SPREADSHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def encoding_of(file: IO[bytes]) -> str:
    """Return the encoding: by a byte order mark or zero bytes, else UTF-8 if valid, else that of old spreadsheets."""
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
        raise Refused("This is not a CSV file: it contains binary data.")
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
    """Store a file and inspect its first lines. Raises Refused if it is not a CSV file."""
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
    """Store the next chunk. With COPY, because the driver caches a hundred statements with their values."""
    into = ImportChunk._meta.db_table
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} (of_id, begins, data) FROM STDIN") as copy:
        copy.write_row((job.pk, job.size, data))


def inspect_header(job: Import) -> None:
    """Read the header and the sample records. Raises Refused if the header is missing or unreadable."""
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
        raise Refused("The first line cannot be read. It must contain the column names.")
    if len(rows[0]) > MAX_COLUMNS:
        raise Refused(f"This file has {len(rows[0]):,} columns. The maximum is {MAX_COLUMNS}.")
    if job.kind == ImportKind.UNSUBSCRIBED and any("@" in cell for cell in rows[0]):
        job.columns = [f"Column {number}" for number in range(1, len(rows[0]) + 1)]
        job.targets = ["email" if "@" in cell else "" for cell in rows[0]]
        job.sample = rows[:SAMPLE_SIZE]
        return
    if any(is_email(cell) for cell in rows[0]):
        raise Refused("The first line contains an email address. Add a line with the column names above it.")
    if len(rows) == 1:
        raise Refused("This file has column names but no data below them.")
    job.columns = [cell[:255] or f"Column {number}" for number, cell in enumerate(rows[0], 1)]
    job.sample = rows[1:]
    job.position, job.lines = begins, line
    job.targets = guess_targets(job.columns)


def find_header(job: Import) -> None:
    """Move to the first line that is not blank, and detect the delimiter."""
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
    try:
        validate_email(value)
    except ValidationError:
        return False
    return True


def physical_lines(job: Import, *, start: int) -> Iterator[bytes]:
    """Yield the lines of the file from a byte on, with their line ends. Load a part of one chunk at a time."""
    at, held = start, b""
    while True:
        place = Cast(Value(at + 1) - F("begins"), IntegerField())
        part = Func(F("data"), place, READ_SIZE, function="substr", output_field=BinaryField())
        chunk = job.chunks.filter(begins__lte=at).order_by("-begins")
        data = bytes(chunk.values_list(part, flat=True).first() or b"")
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
    """One record: its first line, its cells, and the position after it; `wrong` is the error if it is unreadable."""

    __slots__ = ("cells", "ends", "line", "lines", "wrong")

    def __init__(self, *, line: int, cells: list[str], ends: int, lines: int, wrong: str = "") -> None:
        self.line, self.cells, self.ends, self.lines, self.wrong = line, cells, ends, lines, wrong


class LineReader:
    """Iterator over the lines of the file that can go back to the second line of the current record.

    If the reader gives up a record, its other lines are read again as the start of new records. Such a record that
    does not end on its line is inside the same quote as the one before, and is given up at once: following each to the
    limit again would take quadratic time.
    """

    def __init__(self, job: Import, *, ends: int, lines: int) -> None:
        self.raw = physical_lines(job, start=ends)
        self.ends, self.lines = ends, lines
        self.taken: list[bytes] = []
        self.size = 0
        self.again: deque[bytes] = deque()
        # `endless`: records that start before this position may not continue on another line. `known`: its next value.
        self.endless = self.known = ends

    def begin(self) -> None:
        self.taken, self.size = [], 0

    def give_up(self) -> None:
        """Go back to the end of the record's first line."""
        self.endless = self.known
        for raw in reversed(self.taken[1:]):
            self.again.appendleft(raw)
            self.ends -= len(raw)
            self.lines -= raw.endswith((b"\n", b"\r"))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.taken:
            self.check_may_continue()
        raw = self.again.popleft() if self.again else next(self.raw)
        self.taken.append(raw)
        self.size += len(raw)
        self.ends += len(raw)
        self.lines += raw.endswith((b"\n", b"\r"))
        return raw.decode("utf-8", "replace")

    def check_may_continue(self) -> None:
        """Raise csv.Error if the record may not continue on another line."""
        if self.ends <= self.endless or len(self.taken) >= 2 * MAX_RECORD_LINES or self.size >= 2 * MAX_RECORD_SIZE:
            raise csv.Error("the record does not end")
        if len(self.taken) <= MAX_RECORD_LINES and self.size <= MAX_RECORD_SIZE:
            self.known = self.ends


def read_records(job: Import) -> Iterator[Record]:
    """Yield the records of the file from the import's position on, without empty lines."""
    place = LineReader(job, ends=job.position, lines=job.lines)
    reader: Any = csv.reader(place, delimiter=job.delimiter, strict=True)
    while True:
        line = place.lines + 1
        place.begin()
        try:
            cells = next(reader, None)
        except csv.Error as wrong:
            if "expected after" in str(wrong):
                more = f" The cell runs to line {place.lines:,}." if place.lines > line else ""
                reason = f"{TEXT_AFTER_QUOTE}{more}"
            else:
                # The lines after it are records of their own, so read on from the next line.
                place.give_up()
                reason = UNCLOSED_QUOTE
            yield Record(line=line, cells=[], ends=place.ends, lines=place.lines, wrong=reason)
            continue
        if cells is None:
            return
        if any(cells):
            if any(b"'" in raw for raw in place.taken):
                cells = [plain_cell(cell) for cell in cells]
            yield Record(line=line, cells=cells, ends=place.ends, lines=place.lines)
