"""CSV import of customers and opt-outs: check, then write."""

import csv
import io
import re
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audiences.intake import Refused, csv_import
from audiences.intake.csv_import import slices, source
from audiences.models import (
    Company,
    CustomAttribute,
    Customer,
    CustomerTag,
    Import,
    ImportChunk,
    ImportKind,
    ImportPreview,
    ImportState,
    Membership,
    Suppression,
    SuppressionReason,
    SuppressionSource,
    Tag,
)
from audiences.models.customers import Role
from delivery.customers import erase
from tests.factories import AT, CompanyFactory, CustomAttributeFactory, CustomerFactory, TagFactory
from tests.support.imports import FOREVER, run_import, stored_import

pytestmark = pytest.mark.django_db
LATER = AT + timedelta(hours=1)


@pytest.fixture
def by(db) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def store(by):
    """Return a function that uploads a file and does not read its columns."""

    def store(data: bytes) -> Import:
        file = io.BytesIO(data)
        return csv_import.store_upload(file, name="people.csv", kind=ImportKind.CUSTOMERS, by=by, at=AT)

    return store


@pytest.fixture
def upload(by):
    def upload(text: str | bytes, kind: ImportKind = ImportKind.CUSTOMERS) -> Import:
        return stored_import(text, at=AT, by=by, kind=kind)

    return upload


def go(job: Import, state: ImportState, *, tag=None) -> Import:
    csv_import.start_import(job, state, targets=job.targets, tag=tag, at=LATER)
    return run_import(job, at=LATER)


@pytest.fixture
def load(upload):
    """Return a function that checks and writes a file."""

    def load(text: str, kind: ImportKind = ImportKind.CUSTOMERS, *, targets=None, tag=None) -> Import:
        """Return a function that checks and writes a file."""
        job = upload(text, kind)
        job.targets = targets or job.targets
        job.save()
        go(job, ImportState.CHECKING)
        return go(job, ImportState.WRITING, tag=tag)

    return load


def counts(job: Import) -> tuple[int, int, int, int]:
    return job.made, job.changed, job.unchanged, job.wrong


def test_known_columns_create_customers(load):
    CustomAttributeFactory(name="seats", kind="number")

    job = load(
        "Email,User ID,Full name,Signed up,seats,Unsubscribed,Shoe\nAda@Acme.Example,7,Ada Byron,2026-05-01,12,yes,44\n"
    )

    ada = Customer.objects.get()
    assert (ada.email, ada.user_id, ada.name, ada.role) == ("ada@acme.example", "7", "Ada Byron", Role.USER)
    assert ada.signed_up_at == datetime(2026, 5, 1, tzinfo=UTC)
    assert ada.attributes == {"seats": 12}
    assert ada.unsubscribed_from_emails
    assert (job.state, *counts(job)) == (ImportState.DONE, 1, 0, 0, 0)


def test_check_predicts_the_result_and_writes_nothing(upload):
    CustomerFactory(user_id=None, email="new@acme.example", name="New")
    CustomerFactory(user_id=None, email="same@acme.example", name="Same")
    before = list(Customer.objects.values())

    job = go(
        upload("email,name\na@acme.example,A\nnew@acme.example,Newer\nsame@acme.example,Same\nbad,B\n"),
        ImportState.CHECKING,
    )

    assert list(Customer.objects.order_by("pk").values()) == before
    assert (job.state, *counts(job)) == (ImportState.CHECKED, 1, 1, 1, 1)
    written = go(job, ImportState.WRITING)
    assert counts(written) == (1, 1, 1, 1)


def test_error_has_line_column_and_reason(upload):
    CustomAttributeFactory(name="seats", kind="number")

    job = go(
        upload(
            'email,Signed up,seats\nada@acme.example,31/13/2026,1\nnobody,,\n,2026-05-01,2\n"b@acme.example\n",,many\n'
        ),
        ImportState.CHECKING,
    )

    found = [(problem.line, problem.column, problem.reason) for problem in csv_import.problems_of(job)]
    assert found == [
        (2, "Signed up", "“31/13/2026” is not a valid date. The format of this column is year first: 2026-05-31."),
        (3, "email", "“nobody” is not a valid email address."),
        (4, "", "This record has no email, user ID or Outbound ID."),
        (5, "seats", "seats is a number; “many” is not a valid value for it."),
    ]
    assert job.wrong == 4
    assert job.made == 0


def test_empty_cell_changes_nothing(load):
    CustomerFactory(user_id="7", name="Ada", country="Ireland", updated_at=AT)

    job = load("user_id,name,country\n7,,France\n")

    ada = Customer.objects.get()
    assert (ada.name, ada.country, ada.updated_at) == ("Ada", "France", LATER)
    assert counts(job) == (0, 1, 0, 0)


@pytest.mark.parametrize(("written", "bounced"), [("new@acme.example", False), ("OLD@acme.example", True), ("", True)])
def test_new_address_clears_the_bounce(load, written, bounced):
    CustomerFactory(user_id="7", email="old@acme.example", has_hard_bounced=True)

    load(f"user_id,email\n7,{written}\n")

    assert Customer.objects.get().has_hard_bounced is bounced


def test_unchanged_row_is_not_written(load):
    CustomerFactory(user_id="7", name="Ada", updated_at=AT)

    assert counts(load("user_id,name\n7,Ada\n")) == (0, 0, 1, 0)
    assert Customer.objects.get().updated_at == AT


def test_user_id_has_precedence_over_email(load):
    by_id = CustomerFactory(user_id="7", email="old@acme.example")
    other = CustomerFactory(user_id=None, email="ada@acme.example")

    load("user_id,email,name\n7,ada@acme.example,Ada\n")

    assert Customer.objects.get(pk=by_id.pk).email == "ada@acme.example"
    assert Customer.objects.get(pk=other.pk).name == ""


def test_email_alone_prefers_the_customer_without_user_id_then_last_seen(load):
    CustomerFactory(user_id="1", email="a@acme.example", last_seen_at=AT)
    without = CustomerFactory(user_id=None, email="a@acme.example", lead=True)
    CustomerFactory(user_id="2", email="b@acme.example", last_seen_at=None)
    seen = CustomerFactory(user_id="3", email="b@acme.example", last_seen_at=AT)

    load("email,name\na@acme.example,A\nb@acme.example,B\n")

    assert set(Customer.objects.exclude(name="").values_list("pk", "name")) == {(without.pk, "A"), (seen.pk, "B")}
    assert Customer.objects.get(pk=without.pk).role == Role.USER


def test_user_id_is_added_to_the_customer_with_the_email(load):
    customer = CustomerFactory(user_id=None, email="a@acme.example")

    load("user_id,email\n7,a@acme.example\n")

    assert Customer.objects.get().pk == customer.pk
    assert Customer.objects.get().user_id == "7"


def test_id_with_the_user_id_of_another_customer_is_refused(load):
    ada, _ = CustomerFactory(user_id="1"), CustomerFactory(user_id="2")

    job = load(f"id,user_id,name\n{ada.pk},2,Ada\n999999,,B\n")

    assert {problem.reason for problem in csv_import.problems_of(job)} == {
        "The Outbound ID and the user ID or email belong to different customers.",
        "No customer has the Outbound ID 999999.",
    }
    assert not Customer.objects.exclude(name="").exists()


def test_later_lines_see_changes_of_earlier_lines(load):
    job = load("user_id,email,name\n7,a@acme.example,A\n,a@acme.example,B\n7,,C\n8,a@acme.example,D\n8,,E\n")

    assert dict(Customer.objects.values_list("user_id", "name")) == {"7": "C", "8": "E"}
    assert counts(job) == (2, 3, 0, 0)


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    "lines",
    [
        "7,a@acme.example,A,\n7,a@acme.example,A,\n",
        "7,a@acme.example,A,\n7,,B,\n7,,B,\n",
        "7,a@acme.example,A,\n,a@acme.example,B,\n8,a@acme.example,B,\n",
        ",a@acme.example,A,\n7,a@acme.example,,3\n,a@acme.example,,3\n7,,,\n",
        ",a@acme.example,A,\n7,a@acme.example,A,\n8,a@acme.example,A,\n",
        "7,,A,1\n8,,A,1\n7,,,2\n8,,,1\n7,,A,2\n",
    ],
)
def test_check_predicts_repeated_customers(upload, monkeypatch, size, lines):
    monkeypatch.setattr(slices, "SLICE_SIZE", size)
    CustomAttributeFactory(name="seats", kind="number")
    job = upload("user_id,email,name,seats\n" + lines)

    checked = go(job, ImportState.CHECKING)
    said, repeated = counts(checked), checked.repeated
    assert not Customer.objects.exists()
    assert not ImportPreview.objects.exists()

    assert counts(go(job, ImportState.WRITING)) == said
    assert said[0] == Customer.objects.count() == said[0] + said[1] + said[2] - repeated


def test_interrupted_check_starts_again(upload, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_SIZE", 1)
    job = upload("user_id\n7\n8\n")
    csv_import.start_import(job, ImportState.CHECKING, targets=job.targets, tag=None, at=LATER)
    clock = iter([LATER, LATER, FOREVER])
    csv_import.continue_import(job.pk, clock=lambda: next(clock), until=LATER + timedelta(seconds=1))
    assert ImportPreview.objects.get().user_id == "7"

    csv_import.cancel_import(job, at=LATER)

    assert not ImportPreview.objects.exists()


def test_customers_join_companies_by_id_or_name(load):
    CompanyFactory(company_id="k1", name="Acme")
    CompanyFactory(company_id="k2", name="Two")
    CompanyFactory(company_id="k3", name="Two")
    CustomerFactory(user_id="1")

    job = load(
        "user_id,Company ID,Company name\n1,k1,\n2,k9,Fernwood\n3,,Acme\n4,,Two\n5,,New\n6,,New\n7,k1,Acme Ltd\n8,,\n"
    )

    found = Membership.objects.order_by("customer__user_id").values_list("customer__user_id", "company__company_id")
    assert list(found) == [("1", "k1"), ("2", "k9"), ("3", "k1"), ("4", "Two"), ("5", "New"), ("6", "New"), ("7", "k1")]
    names = dict(Company.objects.values_list("company_id", "name"))
    assert names == {"k1": "Acme Ltd", "k2": "Two", "k3": "Two", "k9": "Fernwood", "Two": "Two", "New": "New"}
    assert counts(job) == (7, 1, 0, 0)


def test_archived_company_is_restored_by_an_import(load):
    CompanyFactory(company_id="k1", name="Acme", archived=True)

    load("user_id,company_id\n1,k1\n")

    company = Company.objects.get()
    assert (company.archived_at, company.name) == (None, "Acme")


def test_tags_column_tags_each_customer(load):
    TagFactory(name="VIP")
    CustomerFactory(user_id="1")

    job = load('user_id,Tags\n1,"vip; Fair 2026"\n2,"Fair 2026, fair 2026,"\n3,\n')

    found = CustomerTag.objects.order_by("customer__user_id", "tag__name")
    assert list(found.values_list("customer__user_id", "tag__name")) == [
        ("1", "Fair 2026"),
        ("1", "VIP"),
        ("2", "Fair 2026"),
    ]
    assert counts(job) == (2, 1, 0, 0)


def test_repeated_import_changes_nothing(load):
    text = "user_id,name,company_id,tags\n1,Ada,k1,VIP\n2,Bob,k1,\n3,Cyd,,VIP\n"
    load(text)

    assert counts(load(text)) == (0, 0, 3, 0)


def test_check_predicts_companies_and_tags_and_creates_none(upload):
    CustomerFactory(user_id="1", name="Ada")
    CustomerFactory(user_id="2", name="Bob")
    job = upload("user_id,name,company,tags\n1,Ada,Acme,\n2,Bob,,\n3,Cyd,Acme,VIP\n3,Cyd,Acme,VIP\n")

    said = counts(go(job, ImportState.CHECKING))
    assert (Company.objects.count(), Tag.objects.count()) == (0, 0)

    assert counts(go(job, ImportState.WRITING)) == said == (1, 1, 2, 0)


def test_too_many_or_too_long_tags_are_a_line_error(upload):
    job = go(upload(f"user_id,tags\n1,{';'.join(f't{n}' for n in range(51))}\n2,{'x' * 201}\n"), ImportState.CHECKING)

    assert [(problem.line, problem.column) for problem in csv_import.problems_of(job)] == [(2, "tags"), (3, "tags")]


def test_two_lines_with_different_identifiers_can_mean_one_customer(load):
    CustomerFactory(user_id="7", email="a@acme.example")

    job = load("user_id,email,name\n7,,A\n,a@acme.example,B\n8,b@acme.example,C\n")

    assert dict(Customer.objects.values_list("user_id", "name")) == {"7": "B", "8": "C"}
    assert counts(job) == (1, 2, 0, 0)


def test_import_does_not_undo_an_opt_out(load):
    CustomerFactory(user_id="1", unsubscribed_from_emails=True, unsubscribed_by_customer_at=AT)
    CustomerFactory(user_id="2", unsubscribed_from_emails=True)

    load("user_id,unsubscribed\n1,no\n2,no\n")

    assert dict(Customer.objects.values_list("user_id", "unsubscribed_from_emails")) == {"1": True, "2": False}


def test_archived_customer_is_restored_by_an_import(load):
    CustomerFactory(user_id="1", archived=True)

    load("user_id\n1\n")

    assert Customer.objects.get().archived_at is None


def test_new_attributes_are_created_when_the_file_is_written(upload):
    job = upload("user_id,Team size\n1,12\n")
    job.targets = ["user_id", "new.number.Team size"]
    go(job, ImportState.CHECKING)
    assert not CustomAttribute.objects.exists()

    go(job, ImportState.WRITING)

    assert CustomAttribute.objects.get().kind == "number"
    assert Customer.objects.get().attributes == {"Team size": 12}


def test_every_customer_in_the_file_is_tagged(load):
    CustomerFactory(user_id="1")
    tag = TagFactory(name="From the fair")

    load("user_id\n1\n2\n", tag=tag)

    assert set(tag.customers.values_list("user_id", flat=True)) == {"1", "2"}


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        (["", ""], "identify the customer"),
        (["email", "email"], "Two columns are mapped to “Email”"),
        (["email", "new.text.a.b"], "Leave out"),
        (["email", "password"], "not a field that can be imported"),
        (["email"], "Choose a field for each column"),
    ],
)
def test_invalid_columns_are_refused(upload, targets, reason):
    job = upload("email,name\na@acme.example,A\n")

    with pytest.raises(Refused, match=reason):
        csv_import.start_import(job, ImportState.CHECKING, targets=targets, tag=None, at=LATER)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"email\n", "no data below"), (b"PK\x03\x04rest", "spreadsheet")],
)
def test_file_that_is_not_csv_is_refused_and_not_stored(upload, data, reason):
    with pytest.raises(Refused, match=reason):
        upload(data)

    assert not Import.objects.exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters_of_spreadsheets_are_read(upload, encoding, delimiter):
    job = go(
        upload(f"email{delimiter}name\r\nada@acme.example{delimiter}Zoë\r\n".encode(encoding)), ImportState.CHECKING
    )
    go(job, ImportState.WRITING)

    assert Customer.objects.get().name == "Zoë"


def test_import_continues_where_it_stopped(upload, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_SIZE", 3)
    monkeypatch.setattr(source, "CHUNK_SIZE", 17)
    job = upload("user_id,name\n" + "".join(f'{n},"Na\nme {n}"\n' for n in range(10)))
    assert ImportChunk.objects.count() > 5
    go(job, ImportState.CHECKING)
    csv_import.start_import(job, ImportState.WRITING, targets=job.targets, tag=None, at=LATER)
    clock = iter([LATER, LATER, FOREVER])

    assert csv_import.continue_import(job.pk, clock=lambda: next(clock), until=LATER + timedelta(seconds=1)) is True
    assert Customer.objects.count() == 3
    assert csv_import.active_imports() == [job.pk]
    assert csv_import.continue_import(job.pk, clock=lambda: LATER, until=FOREVER) is False
    assert set(Customer.objects.values_list("user_id", "name")) == {(f"{n}", f"Na\nme {n}") for n in range(10)}
    assert not ImportChunk.objects.exists()


def test_large_file_is_stored_in_chunks(store):
    line = b"someone@acme.example,Somebody\n"
    store(b"email,name\n" + line * 1000)
    big = b"email,name\n" + line * 700_000

    tracemalloc.start()
    job = store(big)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert job.chunks.count() == 21
    assert b"".join(bytes(chunk.data) for chunk in job.chunks.order_by("begins")) == big
    assert held < 5_000_000


def test_cancelled_import_keeps_changes_and_deletes_the_file(upload):
    job = go(upload("user_id\n1\n"), ImportState.CHECKING)
    csv_import.cancel_import(job, at=LATER)

    assert (job.state, Customer.objects.count(), ImportChunk.objects.count()) == (ImportState.CANCELLED, 0, 0)
    assert csv_import.continue_import(job.pk, clock=lambda: LATER, until=FOREVER) is False


def test_list_of_addresses_unsubscribes_customers(load):
    CustomerFactory(user_id="1", email="ada@acme.example")
    CustomerFactory(user_id="2", email="ada@acme.example")
    CustomerFactory(user_id="3", email="bob@acme.example")
    Suppression.objects.suppress(
        "bob@acme.example", SuppressionReason.OPT_OUT, source=SuppressionSource.CUSTOMER, at=AT
    )
    CustomerFactory(user_id="4", email="eve@acme.example")

    job = load(
        "Ada@acme.example\nbob@acme.example\nada@acme.example\ngone@acme.example\nnone\n", ImportKind.UNSUBSCRIBED
    )

    assert set(Customer.objects.filter(unsubscribed_from_emails=True).values_list("user_id", flat=True)) == {
        "1",
        "2",
        "3",
    }
    assert not Customer.objects.filter(unsubscribed_from_emails=True, unsubscribed_by_customer_at=None).exists()
    assert (job.changed, job.unchanged, job.unmatched, job.wrong) == (1, 2, 1, 1)
    assert Customer.objects.count() == 4


SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
BEFORE = ("", "'", "''", " ", "\t", "\r", "\n", "\n ", "\t\n", "Ada;", "Ada; ", "Ada;'", "Ada\t", "Ada\n", ";", "; '")
# A reader with another separator removes the quotes, and a spreadsheet removes the white space of any script.
QUOTED = ('Ada;"', 'Ada\t"', 'Ada\n"', 'Ada; "" ', "\u3000", "\xa0", "\x0b", "Ada;\u3000", "Ada;\xa0")


def test_formula_cell_is_neutralised_and_survives_export_and_import():
    values = [f"{before}{sign}1+1" for before in (*BEFORE, *QUOTED) for sign in SIGNS]
    for value in [*values, "'t Hart", "Ada", "'", "", "\t", "\nAda", "Ada; Bob", "Ada;'Bob", "a=b", "a-b;c", "x;=y;=z"]:
        written = csv_import.safe_cell(value)

        for cell in (written, *re.split("[;\t\r\n]", written)[1:]):
            assert not cell.strip().lstrip(' "\u3000\xa0').startswith(tuple(SIGNS)), (value, written)
        assert not written.startswith(("\t", "\r", "\n")), (value, written)
        assert csv_import.plain_cell(written) == value


def test_text_without_a_formula_is_exported_as_it_is():
    for value in ("'t Hart", "Ada; Bob", "a=b", "ada@acme.example", "4711-12", "Müller & Söhne;Köln", 'Ada;"Bob"'):
        assert csv_import.safe_cell(value) == value


def test_time_zone_is_read_once_per_slice(load):
    CustomAttributeFactory(name="renews_at", kind="date")
    rows = "".join(f"u{n},2026-05-31,2026-06-{n:02} 09:00\n" for n in range(1, 21))

    with CaptureQueriesContext(connection) as asked:
        load(f"user_id,signed_up_at,renews_at\n{rows}")

    assert Customer.objects.filter(signed_up_at__isnull=False, attributes__renews_at__gt=0).count() == 20
    assert sum('FROM "audiences_workspace"' in query["sql"] for query in asked.captured_queries) < 5


def problems(job: Import) -> list[tuple[int, str]]:
    return [(problem.line, problem.reason) for problem in csv_import.problems_of(job)]


def test_character_that_cannot_be_stored_is_a_line_error(load):
    job = load("email,name\nann@acme.example,An\0n\nbob@acme.example,Bob\n")

    assert problems(job) == [(2, "name contains a character that cannot be stored.")]
    assert Customer.objects.get().name == "Bob"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_without_a_byte_order_mark(upload, encoding):
    go(go(upload("email,name\nada@acme.example,Zoë\n".encode(encoding)), ImportState.CHECKING), ImportState.WRITING)

    assert Customer.objects.get().name == "Zoë"


def test_image_is_refused(upload):
    with pytest.raises(Refused, match="not a CSV file"):
        upload(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(Refused, match="not a CSV file"):
        upload(b"\x7fELF\2\1\1\0\0\0")


@pytest.mark.parametrize("after", [1, 20_000])
def test_unclosed_quote_costs_only_its_line(load, after):
    rest = "".join(f"u{n}@acme.example,Name {n}\n" for n in range(after))

    job = load(f'email,name\na@acme.example,"Ann\n{rest}')

    assert problems(job) == [(2, "A quoted cell starts on this line and never ends. Add the closing quote.")]
    assert (job.records, *counts(job)) == (after + 1, after, 0, 0, 1)


@pytest.mark.parametrize(
    ("line", "times"), [('a","', 8_000), ('a","' * 1000, 1_500), ('"', 8_001), (f'a,"{"x" * 60},"', 8_000), ("", 0)]
)
@pytest.mark.parametrize("end", ["", '"' + "x" * 200_000])
def test_lines_with_unclosed_quotes_are_read_a_few_times_at_most(upload, monkeypatch, line, times, end):
    job = upload("email,name\na@acme.example,Ann\n" + f"{line}\n" * times + end)
    read: list[int] = []
    reader = csv.reader

    def noted(line: str) -> str:
        read.append(len(line))
        return line

    monkeypatch.setattr(source.csv, "reader", lambda lines, **how: reader(map(noted, lines), **how))
    taken = list(source.read_records(job))

    assert taken[-1].ends == job.size
    assert len(read) <= 5 * (times + 2)
    assert sum(read) <= 5 * job.size


def test_cell_with_a_thousand_lines_is_read(load):
    lines = "\n" * 999

    job = load(f'email,name\na@acme.example,"{lines}Ann"\nb@acme.example,Bob\n')

    assert (job.made, problems(job)) == (2, [])


def test_cell_with_too_many_lines_costs_only_its_line(load):
    rest = "".join(f"u{n}@acme.example,Name {n}\n" for n in range(3000))

    job = load(f'email,name\na@acme.example,"Ann\n{rest}"\nb@acme.example,Bob\n')

    assert Customer.objects.count() == 3001
    assert [line for line, _ in problems(job)] == [2, 3003]


def test_quote_inside_a_cell_is_an_error_that_names_the_lines(load):
    job = load('email,name\na@acme.example,"Ann" Lee\nb@acme.example,"Bob\nc@acme.example,"Cy"\nd@acme.example,Dan\n')

    goes_on = "There is text after the closing quote of a cell. Write a quote inside a quoted cell twice."
    assert problems(job) == [(2, goes_on), (3, f"{goes_on} The cell runs to line 4.")]
    assert Customer.objects.get().name == "Dan"


def test_file_without_column_names_is_refused(upload):
    with pytest.raises(Refused, match="first line contains an email address"):
        upload("ann@acme.example,Ann\nbob@acme.example,Bob\n")


def test_invalid_first_address_in_a_list_is_an_error(load):
    CustomerFactory(email="bob@acme.example")

    job = load("ann@@acme\nbob@acme.example\n", ImportKind.UNSUBSCRIBED)

    assert problems(job) == [(1, "“ann@@acme” is not a valid email address.")]
    assert Customer.objects.get().unsubscribed_from_emails


@pytest.mark.parametrize("above", ["sep=;\r\n", "\r\n\r\n"])
def test_separator_line_and_blank_lines_above_the_columns_are_skipped(load, above):
    load(f'{above}email;"Name, first"\r\nada@acme.example;Ada\r\n', targets=["email", "name"])

    assert Customer.objects.get().name == "Ada"


def test_trailing_separators_are_ignored(load):
    job = load("email,name\nada@acme.example,Ada,,\nbob@acme.example,Bob,,x\n")

    assert problems(job) == [(3, "This record has 4 cells, but the file has 2 columns.")]
    assert Customer.objects.get().name == "Ada"


def test_endless_line_is_not_held_in_memory(upload):
    big = b"email,name\n" + b"x" * 30_000_000
    upload(b"email\nx\n")

    job = upload(big)
    csv_import.start_import(job, ImportState.CHECKING, targets=job.targets, tag=None, at=LATER)
    tracemalloc.start()
    csv_import.continue_import(job.pk, clock=lambda: LATER, until=FOREVER)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    job.refresh_from_db()
    assert job.wrong
    assert not job.made
    assert most < 25_000_000


def test_erasure_deletes_the_errors_that_quote_the_customer(upload):
    ann = CustomerFactory(user_id="7", email="ann@acme.example", name="Ann")
    job = go(upload("user_id,signed_up_at\n7,Ann@acme.example\n8,anna\n"), ImportState.CHECKING)

    erase.erase(ann, at=LATER)

    assert problems(job) == [
        (2, "This text was erased with the customer’s data."),
        (3, "“anna” is not a valid date. The format of this column is year first: 2026-05-31."),
    ]


@pytest.mark.parametrize(("days", "left"), [(7, ImportState.CHECKED), (8, ImportState.CANCELLED)])
def test_abandoned_file_is_deleted_after_a_week(upload, days, left):
    job = go(upload("user_id\n1\n"), ImportState.CHECKING)

    csv_import.delete_old_files(at=LATER + timedelta(days=days))

    job.refresh_from_db()
    assert (job.state, job.chunks.exists(), bool(job.column_facts)) == (left, *[left == ImportState.CHECKED] * 2)


def test_errors_are_deleted_after_a_month_except_of_running_imports(upload, load):
    done = load("email\nann\nada@acme.example\n")
    waits = upload("email\nann\n")
    csv_import.start_import(waits, ImportState.CHECKING, targets=waits.targets, tag=None, at=LATER)

    csv_import.delete_old_files(at=LATER + timedelta(days=30))
    assert problems(done)

    csv_import.delete_old_files(at=LATER + timedelta(days=31))

    done.refresh_from_db()
    waits.refresh_from_db()
    assert (problems(done), done.wrong, waits.state, waits.chunks.count()) == ([], 1, ImportState.CHECKING, 1)


def test_dates_of_a_column_are_read_in_one_order(load):
    CustomAttributeFactory(name="renews_at", kind="date")

    job = load(
        "user_id,Signed up,Last seen,renews_at\n"
        "1,03/04/2026,04/25/2026,46173\n2,25/04/2026,05/06/2026 10:00,46174.5\n3,06/05/2026,,\n"
    )

    assert job.date_formats[1:] == ["day_first", "month_first", "days_1900"]
    assert counts(job) == (3, 0, 0, 0)
    one, two, _ = Customer.objects.order_by("user_id")
    assert (one.signed_up_at, one.last_seen_at) == (
        datetime(2026, 4, 3, tzinfo=UTC),
        datetime(2026, 4, 25, tzinfo=UTC),
    )
    assert two.last_seen_at == datetime(2026, 5, 6, 10, tzinfo=UTC)
    assert two.attributes == {"renews_at": int(datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp())}


def test_chosen_date_format_replaces_the_guess(upload):
    job = upload("user_id,Signed up\n1,03/04/2026\n")

    for given, reason in ((["iso"], "for each column"), (["iso", "x"], "“x” is not a date format")):
        with pytest.raises(Refused, match=reason):
            csv_import.start_import(
                job, ImportState.CHECKING, targets=job.targets, tag=None, at=LATER, date_formats=given
            )
    csv_import.start_import(
        job, ImportState.CHECKING, targets=job.targets, tag=None, at=LATER, date_formats=["iso", "month_first"]
    )
    run_import(job, at=LATER)
    go(job, ImportState.WRITING)

    assert Customer.objects.get().signed_up_at == datetime(2026, 3, 4, tzinfo=UTC)


def test_eight_digits_are_a_day_and_other_digits_are_not_a_date(load):
    job = load("user_id,Signed up\n1,20251231\n2,01234\n")

    assert Customer.objects.get().signed_up_at == datetime(2025, 12, 31, tzinfo=UTC)
    assert problems(job) == [(3, "“01234” is not a valid date. The format of this column is year first: 2026-05-31.")]


def test_first_and_last_name_are_one_name(upload, load):
    CustomerFactory(user_id="1", name="Ada Byron")
    CustomerFactory(user_id="2", name="Bob de Vries")
    CustomerFactory(user_id="3", name="Cher")
    lines = "1,,King\n2,Rob,\n3,,Bono\n4,Dan,Brown\n5,Eve,\n6,,Fox\n4,,Green\n4,Dan,Green\n"

    job = go(upload(f"user_id,First name,Last name\n{lines}"), ImportState.CHECKING)
    said = counts(job)
    job = go(job, ImportState.WRITING)

    names = dict(Customer.objects.values_list("user_id", "name"))
    assert names == {
        "1": "Ada King",
        "2": "Rob de Vries",
        "3": "Cher Bono",
        "4": "Dan Green",
        "5": "Eve",
        "6": "Fox",
    }
    assert counts(job) == said == (3, 4, 1, 0)


def test_name_and_its_parts_exclude_each_other(upload):
    job = upload("user_id,name,First name\n1,Ada Byron,Ada\n")

    with pytest.raises(Refused, match="Choose either a column for the name"):
        csv_import.start_import(job, ImportState.CHECKING, targets=job.targets, tag=None, at=LATER)
    long = upload(f"user_id,First name,Last name\n1,{'x' * 200},{'y' * 200}\n")
    assert long.targets == ["user_id", "first_name", "last_name"]
    go(long, ImportState.CHECKING)
    assert problems(long) == [(2, "The first name and the last name are longer than 255 characters together.")]


def test_one_wrong_byte_does_not_change_the_encoding(upload):
    good = "".join(f"z{n}@example.net,Zoë\n" for n in range(50))
    data = f"email,name\n{good}".encode() + b"z@example.net,Caf\xe9\n" + b"y@example.net,Yve\n"

    job = upload(data)
    assert (job.encoding, job.undecodable) == ("utf-8", 1)
    job = go(go(job, ImportState.CHECKING), ImportState.WRITING)

    assert set(Customer.objects.values_list("name", flat=True)) == {"Zoë", "Yve"}
    reason = "This record contains a byte that is not valid in UTF-8. Correct the file, or choose another encoding."
    assert problems(job) == [(52, reason)]


def test_encoding_can_be_changed_until_the_file_is_written(upload):
    job = upload("email,Имя\nada@acme.example,Ада\n".encode("cp1251"))
    assert job.encoding == "cp1252"
    job = go(job, ImportState.CHECKING)

    csv_import.change_encoding(job, "cp1251", at=LATER)
    job = run_import(job, at=LATER)

    assert (job.state, job.columns, job.column_facts[1]["examples"]) == (
        ImportState.UPLOADED,
        ["email", "Имя"],
        ["Ада"],
    )
    job.targets = ["email", "name"]
    job = go(go(job, ImportState.CHECKING), ImportState.WRITING)
    assert Customer.objects.get().name == "Ада"
    with pytest.raises(Refused, match="cannot be started now"):
        csv_import.change_encoding(job, "utf-8", at=LATER)


OTHER_LETTERS = {
    "cp1251": "Я",
    "koi8-r": "Я",
    "cp1253": "Ω",
    "cp1255": "ש",
    "cp1256": "ع",
    "cp932": "ソ",
    "big5": "功",
    "cp949": "각",
}


def test_every_offered_encoding_is_read(upload):
    for encoding, letter in {**dict.fromkeys(csv_import.ENCODINGS, "é"), **OTHER_LETTERS}.items():
        job = upload(f"email,name\nada@acme.example,{letter}\n".encode(encoding))
        if job.encoding != encoding:
            csv_import.change_encoding(job, encoding, at=LATER)
            run_import(job, at=LATER)
        assert (job.column_facts[1]["examples"], job.undecodable) == ([letter], 0), encoding


def test_unknown_encoding_and_that_of_utf_16_are_refused(upload):
    with pytest.raises(Refused, match="“rot13” is not an encoding that can be read"):
        csv_import.change_encoding(upload("email\na@b.example\n"), "rot13", at=LATER)
    with pytest.raises(Refused, match="in UTF-16"):
        csv_import.change_encoding(upload("email\na@b.example\n".encode("utf-16")), "utf-8", at=LATER)


def test_repeated_customers_are_shown_with_the_changes_they_cause(upload, monkeypatch):
    CustomAttributeFactory(name="seats", kind="number")
    CustomerFactory(user_id="1", name="Ada", phone="5", attributes={"seats": 2})
    CustomerFactory(user_id="2", email="bob@acme.example")
    CustomerFactory(user_id="3", name="Cyd")
    lines = (
        '1,,Eda,,,VIP\n2,,,,,\n3,,Cyd,,,\n4,dan@acme.example,Dan,7,1,\n1,,Ida,6,3,"VIP; Fair"\n'
        "2,,Bob,,,\n3,,Cyd,,,\n,dan@acme.example,Dan,8,1,\n,bob@acme.example,Bob,,,\n"
    )
    for size in (1, 3, 100):
        monkeypatch.setattr(slices, "SLICE_SIZE", size)
        job = go(upload(f"user_id,email,name,phone,seats,tags\n{lines}"), ImportState.CHECKING)

        assert (job.repeated, job.repeated_changes) == (5, 3), size
        assert [(note.line, note.column, note.reason) for note in csv_import.repeats_of(job)] == [
            (6, "Name", "“Eda” from line 2 or before becomes “Ida”."),
            (6, "Phone", "“5” from line 2 or before becomes “6”."),
            (6, "Tags", "“VIP, Fair” is added to the customer of line 2."),
            (6, "seats", "“2” from line 2 or before becomes “3”."),
            (7, "Name", "The customer of line 3 gets “Bob”."),
            (9, "Phone", "“7” from line 5 or before becomes “8”."),
        ], size
    assert problems(job) == []

    said = counts(job)
    assert counts(go(job, ImportState.WRITING)) == said == (1, 4, 4, 0)
    assert csv_import.repeats_of(job) == []


def test_erasure_deletes_the_changes_that_quote_the_customer(upload):
    ann = CustomerFactory(user_id="7", name="Ann")
    job = go(upload("user_id,name\n7,Anna\n7,Ann\n8,Bob\n8,Rob\n"), ImportState.CHECKING)

    erase.erase(ann, at=LATER)

    assert [note.reason for note in csv_import.repeats_of(job)] == [
        "This text was erased with the customer’s data.",
        "“Bob” from line 4 or before becomes “Rob”.",
    ]


def lines_of(job: Import, *, after: int = 0, limit: int = 100) -> list[tuple]:
    return [
        (it.line, it.customer, "created" if it.created else it.error or it.changes)
        for it in csv_import.effects_of(job, after=after, limit=limit)
    ]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_effects_of_an_import_are_recorded_line_by_line(load, monkeypatch, size):
    monkeypatch.setattr(slices, "SLICE_SIZE", size)
    CustomAttributeFactory(name="seats", kind="number")
    tag, company, fair = TagFactory(name="VIP"), CompanyFactory(company_id="k1"), TagFactory(name="Fair")
    ada = CustomerFactory(user_id="1", name="Ada", phone="5", attributes={"seats": 2})
    bob = CustomerFactory(user_id=None, email="bob@acme.example", lead=True)
    cyd = CustomerFactory(user_id="3", name="Cyd", archived=True)
    CustomerTag.objects.create(customer=ada, tag=fair, created_at=AT)

    job = load(
        "user_id,email,name,phone,seats,tags,company_id\n"
        "1,,Eda,,3,VIP,k1\n,bob@acme.example,,,,,\n3,,Cyd,,,,\n4,,Dan,,,VIP,\n5,,Eve,,,,\n1,,Eda,,3,VIP,k1\nnull,,,,,,\n"
        "4,,Din,7,1,,\n6,,,,,,\n",
        tag=fair,
    )

    dan, eve, fay = Customer.objects.filter(user_id__in="456").order_by("user_id").values_list("pk", flat=True)
    found = lines_of(job)
    assert [(line, who) for line, who, _ in found] == [
        *((2, ada.pk), (3, bob.pk), (4, cyd.pk), (5, dan), (6, eve), (8, None), (9, dan), (10, fay))
    ]
    effects = {line: effect for line, _, effect in found}
    assert effects[2] == {
        "name": ["Ada", "Eda"],
        "custom_attributes.seats": [2, 3],
        "tags": [tag.pk],
        "companies": [company.pk],
    }
    assert effects[3] == {"role": ["lead", "user"], "tags": [fair.pk]}
    assert (set(effects[4]), effects[4]["archived_at"][1]) == ({"archived_at", "tags"}, None)
    assert effects[5] == effects[6] == effects[10] == "created"
    assert "a placeholder for a missing value" in effects[8]
    assert effects[9] == {"name": ["Dan", "Din"], "phone": ["", "7"], "custom_attributes.seats": [None, 1]}
    for after in (0, 2, 5, 8, 9, 10):
        assert lines_of(job, after=after, limit=2) == [row for row in found if row[0] > after][:2]

    csv_import.delete_old_files(at=LATER + timedelta(days=30))
    assert lines_of(job)
    csv_import.delete_old_files(at=LATER + timedelta(days=31))
    assert not lines_of(job)


def test_repeated_dates_are_shown_as_moments(upload):
    CustomAttributeFactory(name="renews", kind="date")
    lines = "1,2026-05-01,2026-06-01\n1,2026-05-02 10:30,2026-06-02\n2,,\n2,2026-05-03,\n"
    job = go(upload(f"user_id,Signed up,renews\n{lines}"), ImportState.CHECKING)

    assert [(note.line, note.reason) for note in csv_import.repeats_of(job)] == [
        (3, "“2026-05-01 00:00” from line 2 or before becomes “2026-05-02 10:30”."),
        (3, "“2026-06-01 00:00” from line 2 or before becomes “2026-06-02 00:00”."),
        (5, "The customer of line 4 gets “2026-05-03 00:00”."),
    ]
