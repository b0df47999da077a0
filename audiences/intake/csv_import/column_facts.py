"""Facts about the columns of a file, collected while all of it is read: shapes of the cells, and examples.

They are counts, so that slices can be added up. The guesses about formats and kinds depend on nothing else.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from audiences.intake.attributes.coercion import NUMBER
from audiences.intake.attributes.fields import replace_unstorable
from audiences.intake.csv_import.dates import DateFormat, NotADate, read_date
from audiences.rules import Kind

MAX_EXAMPLES = 3
MAX_EXAMPLE_LENGTH = 200
# A column with so many cells, and hardly any of a kind other than text, is text: the rest need not be looked at.
MIN_CELLS_OF_TEXT = 2_000
ENOUGH_TEXT = 0.95
BOOLEAN_WORDS = {"true", "false", "yes", "no"}
# Longer numbers are phone numbers, IDs and the like, which have no sum.
MAX_DIGITS_OF_NUMBER = 9
DIGITS = re.compile(r"\d{1,14}")
SERIAL = re.compile(r"[2-7]\d{4}(?:[.,]\d{1,15})?")
TWO_PARTS = re.compile(r"(\d{1,2})[-/.]\s?(\d{1,2})[-/.]\s?\d")
# Of seconds and milliseconds that are plausible as a time, the years 1973 to 2099.
FIRST_SECOND, LAST_SECOND = 10**8, 4_102_444_800
UTC = ZoneInfo("UTC")

# Words in the name of a column.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")
CODE_WORDS = {
    *(
        "zip",
        "zipcode",
        "postcode",
        "postal",
        "postalcode",
        "plz",
        "phone",
        "telephone",
        "tel",
        "mobile",
        "cell",
        "fax",
    ),
    *("id", "ids", "code", "sku", "iban", "vat", "ref", "reference", "serial"),
}
DATE_WORDS = {
    *("date", "datetime", "day", "time", "timestamp", "at", "on", "since", "until", "created", "updated", "birthday"),
    *("birthdate", "dob", "expires", "expiry", "renewal", "renews", "started", "ended", "joined", "signup", "seen"),
    *("datum", "fecha", "data"),
}

# Dates that read the same in each order of day, month and year.
CALENDAR_SHAPES = ("year_first", "compact", "named")
DATE_SHAPES = {
    DateFormat.ISO: CALENDAR_SHAPES,
    DateFormat.DAY_FIRST: (*CALENDAR_SHAPES, "day_first", "either", "same"),
    DateFormat.MONTH_FIRST: (*CALENDAR_SHAPES, "month_first", "either", "same"),
    DateFormat.DAYS_1900: ("serial",),
    DateFormat.SECONDS: ("seconds",),
    DateFormat.MILLISECONDS: ("milliseconds",),
}
CALENDAR_DATES = {*CALENDAR_SHAPES, "day_first", "month_first", "either", "same"}
NUMBER_SHAPES = {"number", "serial", "compact"}
DATE_NUMBERS = {"serial", "seconds", "milliseconds"}


def readable(value: str, date_format: DateFormat) -> bool:
    try:
        read_date(value, date_format, zone=UTC)
    except NotADate:
        return False
    return True


def shape_of(value: str) -> str:
    """Return the shape of a cell: a kind of date, of number, “boolean” or “text”."""
    written = value.strip()
    # Only for speed.
    if "@" in written:
        return "text"
    if not any(map(str.isdigit, written)):
        return "boolean" if written.lower() in BOOLEAN_WORDS else "text"
    if DIGITS.fullmatch(written):
        return digits_shape(written)
    if SERIAL.fullmatch(written):
        return "serial"
    if NUMBER.fullmatch(written):
        return "text" if written[0] == "+" or len(written) > MAX_DIGITS_OF_NUMBER + 6 else "number"
    if parts := TWO_PARTS.match(written):
        return plain_date_shape(written, first=int(parts[1]), second=int(parts[2]))
    if not readable(written, DateFormat.ISO):
        return "text"
    return "year_first" if written[:4].isdecimal() else "named"


def digits_shape(written: str) -> str:
    if len(written) == 8 and readable(written, DateFormat.ISO):
        return "compact"
    if written[0] == "0" and written != "0":
        return "text"
    if SERIAL.fullmatch(written):
        return "serial"
    if len(written) <= MAX_DIGITS_OF_NUMBER and int(written) < FIRST_SECOND:
        return "number"
    for shape, factor in (("seconds", 1), ("milliseconds", 1000)):
        if FIRST_SECOND <= int(written) // factor < LAST_SECOND:
            return shape
    return "text"


def plain_date_shape(written: str, *, first: int, second: int) -> str:
    """Return the shape of a date such as 31/05/2026, by its first two numbers."""
    by_day, by_month = readable(written, DateFormat.DAY_FIRST), readable(written, DateFormat.MONTH_FIRST)
    if by_day and by_month:
        return "same" if first == second else "either"
    if by_day:
        return "day_first"
    return "month_first" if by_month else "text"


def shortened(value: str) -> str:
    """Return a cell as an example that can be stored and shown."""
    return replace_unstorable(value[:MAX_EXAMPLE_LENGTH])


@dataclass(slots=True)
class ColumnFacts:
    """The numbers of cells of each shape, the first different values, and a date that shows the order."""

    shapes: Counter[str]
    examples: list[str]
    telling: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ColumnFacts":
        return cls(Counter(stored.get("shapes", {})), list(stored.get("examples", [])), stored.get("telling", ""))

    def as_json(self) -> dict[str, Any]:
        return {"shapes": dict(self.shapes), "examples": self.examples, "telling": self.telling}

    @property
    def cells(self) -> int:
        """The number of cells that are not empty."""
        return self.shapes.total()

    @property
    def is_settled(self) -> bool:
        """Whether the column is text, whatever the rest of the file contains."""
        return self.cells >= MIN_CELLS_OF_TEXT and self.shapes["text"] >= self.cells * ENOUGH_TEXT

    def add(self, value: str) -> None:
        """Count a cell that is not empty."""
        shape = shape_of(value)
        self.shapes[shape] += 1
        if len(self.examples) < MAX_EXAMPLES and (short := shortened(value)) not in self.examples:
            self.examples.append(short)
        if not self.telling and shape in ("day_first", "month_first"):
            self.telling = shortened(value)

    def shown_values(self) -> list[str]:
        """Return up to MAX_EXAMPLES values, among them one that shows the order of day and month."""
        if not self.telling or self.telling in self.examples:
            return self.examples
        return [*self.examples[: MAX_EXAMPLES - 1], self.telling]


def facts_of(values: Iterable[str]) -> ColumnFacts:
    """Return the facts of a column with these cells."""
    facts = ColumnFacts(Counter(), [])
    for value in values:
        if value.strip():
            facts.add(value)
    return facts


def add_rows(columns: Sequence[ColumnFacts], rows: Iterable[Sequence[str]]) -> None:
    """Add the cells of these rows to the facts of their columns."""
    open_columns = [(place, facts) for place, facts in enumerate(columns) if not facts.is_settled]
    for cells in rows:
        for place, facts in open_columns:
            if place < len(cells) and (value := cells[place]) and not value.isspace():
                facts.add(value)


@dataclass(frozen=True, slots=True)
class DateGuess:
    """The format that reads the most cells of a column.

    `is_ambiguous`: the other order of day and month reads as many.
    """

    date_format: DateFormat
    readable: int
    is_ambiguous: bool


def guess_date_format(facts: ColumnFacts, *, hint: DateFormat | None = None) -> DateGuess:
    """Guess the format of a column of dates; year first if nothing fits. `hint`: the order in other columns."""
    counts = {name: sum(facts.shapes[shape] for shape in shapes) for name, shapes in DATE_SHAPES.items()}
    best = max(counts, key=lambda name: counts[name])
    is_ambiguous = (
        best is DateFormat.DAY_FIRST and counts[best] == counts[DateFormat.MONTH_FIRST] and bool(facts.shapes["either"])
    )
    if is_ambiguous and hint is DateFormat.MONTH_FIRST:
        best = hint
    return DateGuess(best, counts[best], is_ambiguous)


def guess_formats(columns: Iterable[ColumnFacts]) -> list[DateGuess]:
    """Guess the date format of each column. An ambiguous column gets the order that the others have."""
    columns = list(columns)
    alone = [guess_date_format(facts) for facts in columns]
    orders = {
        guess.date_format
        for guess in alone
        if guess.date_format in (DateFormat.DAY_FIRST, DateFormat.MONTH_FIRST) and not guess.is_ambiguous
    }
    hint = orders.pop() if len(orders) == 1 else None
    return [guess_date_format(facts, hint=hint) for facts in columns]


def guess_kind(facts: ColumnFacts, *, header: str = "") -> Kind:
    """Guess the kind of a new attribute. Codes stay text: phone numbers, postcodes, IDs, digits with leading zeros."""
    shapes, words = set(facts.shapes), {word.lower() for word in WORD.findall(header)}
    if not shapes or words & CODE_WORDS:
        return Kind.TEXT
    if shapes == {"boolean"}:
        return Kind.BOOLEAN
    if shapes <= CALENDAR_DATES or (shapes <= DATE_NUMBERS and len(shapes) == 1 and words & DATE_WORDS):
        return Kind.DATE
    return Kind.NUMBER if shapes <= NUMBER_SHAPES else Kind.TEXT
