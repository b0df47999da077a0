"""Guesses about columns from the shapes of all their cells."""

from audiences.intake.csv_import.column_facts import (
    MIN_CELLS_OF_TEXT,
    ColumnFacts,
    add_rows,
    facts_of,
    guess_date_format,
    guess_formats,
    guess_kind,
)
from audiences.intake.csv_import.dates import DateFormat
from audiences.rules import Kind

# Cells, the guessed format, whether the other order of day and month fits as well.
FORMATS = [
    (["2026-05-31", "2026-06-01 10:00"], DateFormat.ISO, False),
    (["20251231", "20260101"], DateFormat.ISO, False),
    (["31 May 2026", "1 June 2026"], DateFormat.ISO, False),
    (["03/04/2026", "05/06/2026", "25/06/2026"], DateFormat.DAY_FIRST, False),
    (["03/04/2026", "05/06/2026", "06/25/2026"], DateFormat.MONTH_FIRST, False),
    # One cell that fits no other order decides, even if it is the last of many.
    (["03/04/2026"] * 5000 + ["06/25/2026"], DateFormat.MONTH_FIRST, False),
    # Most cells decide if a few have another format.
    (["25/06/2026"] * 9 + ["06/25/2026"], DateFormat.DAY_FIRST, False),
    (["03/04/2026", "05/06/2026"], DateFormat.DAY_FIRST, True),
    (["04/04/2026", "05/05/2026"], DateFormat.DAY_FIRST, False),
    (["46173", "46174.5"], DateFormat.DAYS_1900, False),
    (["1780185600"], DateFormat.SECONDS, False),
    (["1780185600000"], DateFormat.MILLISECONDS, False),
    (["Ada", "Bob"], DateFormat.ISO, False),
    ([], DateFormat.ISO, False),
]
# Header, cells, the guessed kind of a new attribute.
KINDS = [
    ("Zip", ["01234", "00501"], Kind.TEXT),
    ("Area", ["01234", "00501", "90210"], Kind.TEXT),
    ("Contact", ["01512345678", "01712345678"], Kind.TEXT),
    ("Contact", ["+353 1 234", "+353123456"], Kind.TEXT),
    ("Zip code", ["90210", "10115"], Kind.TEXT),
    ("Customer ID", ["1", "2"], Kind.TEXT),
    ("Card", ["4111111111111111"], Kind.TEXT),
    ("Seats", ["1", "12", "300"], Kind.NUMBER),
    ("Seats", ["0", "1"], Kind.NUMBER),
    ("Revenue", ["46173", "51.5"], Kind.NUMBER),
    ("Renewal date", ["46173", "46200"], Kind.DATE),
    ("Created at", ["1780185600", "1780185601"], Kind.DATE),
    ("Account", ["1780185600", "1780185601"], Kind.TEXT),
    ("Renewal", ["20251231", "20260101"], Kind.DATE),
    ("Seats", ["20251231", "7"], Kind.NUMBER),
    ("Renewal", ["31/05/2026", "01/06/2026"], Kind.DATE),
    ("Renewal", ["31/05/2026", "soon"], Kind.TEXT),
    ("Active", ["yes", "No"], Kind.BOOLEAN),
    ("Active", ["yes", "maybe"], Kind.TEXT),
    ("Empty", [], Kind.TEXT),
]


def test_format_is_guessed_from_the_whole_column():
    for cells, date_format, is_ambiguous in FORMATS:
        guess = guess_date_format(facts_of(cells))
        assert (guess.date_format, guess.is_ambiguous) == (date_format, is_ambiguous), cells[-3:]


def test_ambiguous_column_gets_the_order_of_the_others():
    ambiguous = facts_of(["03/04/2026"])

    for telling, meant in (("06/25/2026", DateFormat.MONTH_FIRST), ("25/06/2026", DateFormat.DAY_FIRST)):
        guesses = guess_formats([ambiguous, facts_of([telling]), facts_of(["Ada"])])
        assert [guess.date_format for guess in guesses] == [meant, meant, DateFormat.ISO]
        assert guesses[0].is_ambiguous


def test_digits_that_are_not_clearly_a_number_or_a_date_stay_text():
    for header, cells, kind in KINDS:
        assert guess_kind(facts_of(cells), header=header) is kind, (header, cells)


def test_facts_of_slices_add_up_to_those_of_the_column():
    cells = ["03/04/2026", "", "25/06/2026", "x\0y"]
    whole = facts_of(cells)

    in_slices = [ColumnFacts.from_json({})]
    for cell in cells:
        add_rows(in_slices, [[cell]])
        in_slices = [ColumnFacts.from_json(in_slices[0].as_json())]

    assert in_slices == [whole]
    assert whole.shown_values() == ["03/04/2026", "25/06/2026", "x?y"]


def test_example_shows_the_order_of_day_and_month():
    facts = facts_of([f"0{n}/04/2026" for n in range(1, 8)] + ["25/04/2026"])

    assert facts.shown_values() == ["01/04/2026", "02/04/2026", "25/04/2026"]


def test_column_of_text_is_not_read_to_its_end():
    facts = facts_of(["Ada"] * MIN_CELLS_OF_TEXT)

    add_rows([facts], [["Bob"], ["31/05/2026"]])

    assert facts.cells == MIN_CELLS_OF_TEXT
