"""The uploaded file, stored in chunks and read again from any record."""

import codecs
import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
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


# Encodings that a teammate can choose, with their labels. In each, a byte of a line end is a line end.
ENCODINGS = {
    "utf-8": "UTF-8",
    "cp1252": "Western European (Windows-1252)",
    "iso8859-15": "Western European (ISO 8859-15)",
    "mac_roman": "Western European (Mac)",
    "cp1250": "Central European (Windows-1250)",
    "cp1251": "Cyrillic (Windows-1251)",
    "koi8-r": "Cyrillic (KOI8-R)",
    "cp1253": "Greek (Windows-1253)",
    "cp1254": "Turkish (Windows-1254)",
    "cp1255": "Hebrew (Windows-1255)",
    "cp1256": "Arabic (Windows-1256)",
    "cp932": "Japanese (Shift JIS)",
    "gb18030": "Chinese (GB 18030)",
    "big5": "Chinese (Big5)",
    "cp949": "Korean (Windows-949)",
}
# The bytes themselves show this encoding. Such a file is stored in UTF-8.
UTF_16 = ("utf-16", "utf-16-le", "utf-16-be")


def encoding_label(encoding: str) -> str:
    return ENCODINGS.get(encoding, "UTF-16")


def encoding_of(file: IO[bytes]) -> str:
    """Return the encoding: by a byte order mark or zero bytes, else UTF-8 or the one of old spreadsheets.

    A few bytes that are not valid in UTF-8 do not decide: the file is in UTF-8 if more of its characters are valid.
    """
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
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    valid = invalid = 0
    while True:
        piece = file.read(CHUNK_SIZE)
        text = decoder.decode(piece, final=not piece)
        invalid += (wrong := text.count("\ufffd"))
        valid += len(text) - len(text.encode("ascii", "ignore")) - wrong
        if not piece:
            return "utf-8" if valid >= invalid else "cp1252"


def store_upload(file: IO[bytes], *, name: str, kind: ImportKind, by: User | None, at: datetime) -> Import:
    """Store a file and inspect its first lines. Raises Refused if it is not a CSV file."""
    encoding = encoding_of(file)
    file.seek(0)
    convert = utf_8_of(encoding) if encoding in UTF_16 else bytes_without_mark()
    with transaction.atomic():
        job = Import.objects.create(
            kind=kind,
            file_name=replace_unstorable(name)[-255:] or "file.csv",
            encoding="utf-16" if encoding in UTF_16 else encoding,
            started_by=by,
            created_at=at,
            updated_at=at,
        )
        while True:
            piece = file.read(CHUNK_SIZE)
            data = convert(piece)
            if data:
                store_chunk(job, data)
                job.size += len(data)
            if not piece:
                break
        inspect_header(job)
        job.save()
    return job


def utf_8_of(encoding: str) -> Callable[[bytes], bytes]:
    """Return a function that converts the next piece of a file, empty at its end, to UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    return lambda piece: decoder.decode(piece, final=not piece).encode("utf-8", "replace")


def bytes_without_mark() -> Callable[[bytes], bytes]:
    """Return a function that removes the byte order mark of UTF-8 from the first piece of a file."""
    marks = iter([codecs.BOM_UTF8])
    return lambda piece: piece.removeprefix(next(marks, b""))


def store_chunk(job: Import, data: bytes) -> None:
    """Store the next chunk. With COPY, because the driver caches a hundred statements with their values."""
    into = ImportChunk._meta.db_table
    with connection.cursor() as cursor, cursor.copy(f"COPY {into} (of_id, begins, data) FROM STDIN") as copy:
        copy.write_row((job.pk, job.size, data))


def inspect_header(job: Import) -> None:
    """Read the header, and move to the first record. Raises Refused if the header is missing or unreadable."""
    find_header(job)
    records = list(islice(read_records(job), 2))
    if not records:
        raise Refused("This file is empty.")
    header = [replace_unstorable(cell.strip()) for cell in records[0].cells]
    if not header:
        raise Refused("The first line cannot be read. It must contain the column names.")
    if len(header) > MAX_COLUMNS:
        raise Refused(f"This file has {len(header):,} columns. The maximum is {MAX_COLUMNS}.")
    if job.kind == ImportKind.UNSUBSCRIBED and any("@" in cell for cell in header):
        job.columns = [f"Column {number}" for number in range(1, len(header) + 1)]
        job.targets = ["email" if "@" in cell else "" for cell in header]
        return
    if any(is_email(cell) for cell in header):
        raise Refused("The first line contains an email address. Add a line with the column names above it.")
    if len(records) == 1:
        raise Refused("This file has column names but no data below them.")
    job.columns = [cell[:255] or f"Column {number}" for number, cell in enumerate(header, 1)]
    job.position, job.lines = records[0].ends, records[0].lines
    job.targets = guess_targets(job.columns)


def find_header(job: Import) -> None:
    """Move to the first line that is not blank, and detect the delimiter."""
    delimiter, text = "", ""
    for raw in physical_lines(job, start=0):
        text = raw.decode(codec_of(job), "replace").rstrip("\r\n")
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


def codec_of(job: Import) -> str:
    """Return the encoding of the stored bytes."""
    return "utf-8" if job.encoding in UTF_16 else job.encoding


class Record:
    """One record: its first line, its cells, and the position after it; `wrong` is the error if it is unreadable."""

    __slots__ = ("cells", "ends", "is_undecodable", "line", "lines", "wrong")

    def __init__(
        self, *, line: int, cells: list[str], ends: int, lines: int, wrong: str = "", is_undecodable: bool = False
    ) -> None:
        self.line, self.cells, self.ends, self.lines = line, cells, ends, lines
        self.wrong, self.is_undecodable = wrong, is_undecodable


class LineReader:
    """Iterator over the lines of the file that can go back to the second line of the current record.

    If the reader gives up a record, its other lines are read again as the start of new records. Such a record that
    does not end on its line is inside the same quote as the one before, and is given up at once: following each to the
    limit again would take quadratic time.
    """

    def __init__(self, job: Import, *, ends: int, lines: int) -> None:
        self.raw = physical_lines(job, start=ends)
        self.decode = codecs.getdecoder(codec_of(job))
        self.is_decodable = True
        self.ends, self.lines = ends, lines
        self.taken: list[bytes] = []
        self.size = 0
        self.again: deque[bytes] = deque()
        # `endless`: records that start before this position may not continue on another line. `known`: its next value.
        self.endless = self.known = ends

    def begin(self) -> None:
        self.taken, self.size, self.is_decodable = [], 0, True

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
        try:
            return self.decode(raw)[0]
        except UnicodeDecodeError:
            self.is_decodable = False
            return self.decode(raw, "replace")[0]

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
            if place.is_decodable:
                yield Record(line=line, cells=cells, ends=place.ends, lines=place.lines)
                continue
            reason = undecodable_reason(job)
            yield Record(line=line, cells=cells, ends=place.ends, lines=place.lines, wrong=reason, is_undecodable=True)


def undecodable_reason(job: Import) -> str:
    label = encoding_label(job.encoding)
    return f"This record contains a byte that is not valid in {label}. Correct the file, or choose another encoding."
