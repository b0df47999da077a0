"""The list of people: search, filters and rules; bulk actions; import and export."""

import csv
import io
import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audiences import compiler
from audiences.models import Audience, Customer, CustomerTag, Import, ImportState, Tag
from delivery import tasks
from messaging.models import Autosave, Message
from outbound.console import admin as console_pages
from tests.factories import (
    AT,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    SegmentFactory,
    TagFactory,
    rule,
)

pytestmark = pytest.mark.django_db
LIST = reverse("admin:audiences_customer_changelist")


def rules(*found: dict, match: str = "all") -> str:
    return json.dumps({"match": match, "rules": list(found)})


def listed_ids(console, **query: object) -> list[str]:
    answer = console.get(LIST, query)
    assert answer.status_code == 200
    return [customer.user_id for customer in answer.context["cl"].result_list]


def pick(console, verb: str, query: dict | None = None, **posted: object):
    address = reverse("admin:customer_picked", args=[verb])
    return console.post(address, posted, query_params=query or {})


def tick(console, action: str, *customers: Customer):
    return console.post(LIST, {"action": action, "_selected_action": [customer.pk for customer in customers]})


@pytest.fixture
def three(db) -> list[Customer]:
    return [
        CustomerFactory(user_id="ada", name="Ada", country="Ireland", last_seen_at=AT),
        CustomerFactory(user_id="bob", name="Bob", country="France", last_seen_at=None),
        CustomerFactory(user_id="eve", name="Eve", country="Ireland", last_seen_at=AT - timedelta(days=1)),
    ]


@pytest.mark.usefixtures("three")
def test_list_is_ordered_by_last_seen(console):
    assert listed_ids(console) == ["ada", "eve", "bob"]


@pytest.mark.usefixtures("three")
def test_list_is_filtered_by_rules(console):
    assert listed_ids(console, rules=rules(rule("country", "is", "Ireland"))) == ["ada", "eve"]
    assert listed_ids(console, rules=rules(rule("country", "is", "Ireland")), q="eve") == ["eve"]
    assert listed_ids(console, rules=rules()) == ["ada", "eve", "bob"]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("wrong", ["{", '"x"', rules(rule("nothing", "is", "x")), rules(rule("country", "is", ""))])
def test_invalid_rules_show_no_customers_and_an_error(console, wrong):
    answer = console.get(LIST, {"rules": wrong})

    assert answer.status_code == 200
    assert list(answer.context["cl"].result_list) == []
    assert answer.context["form"].errors["rules"]


def test_list_uses_the_index_for_its_order(console):
    with CaptureQueriesContext(connection) as queries:
        console.get(LIST)
    rows = next(
        query["sql"] for query in queries if "ORDER BY" in query["sql"] and "audiences_customer" in query["sql"]
    )
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {rows}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan using customer_seen_last" in plan


def test_number_of_queries_does_not_grow_with_rows(console):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get(LIST).status_code == 200
        return len(queries)

    CustomerTagFactory()
    count()
    before = count()
    for _ in range(20):
        CustomerTagFactory(tag=Tag.objects.first())
    assert count() == before


@pytest.mark.usefixtures("three")
def test_count_stops_at_the_limit(console, monkeypatch):
    monkeypatch.setattr(console_pages, "COUNT_LIMIT", 2)

    # With a filter: without one, the count comes from planner statistics, which outlive the test.
    answer = console.get(LIST, {"role__exact": "user"})

    assert answer.context["cl"].result_count == 2
    assert "More than 2 people" in answer.content.decode()
    assert "More than 2 customers" in " ".join(answer.content.decode().split())


def test_ticked_customers_are_tagged(console, three):
    page = tick(console, "tag_ticked", three[0], three[1])
    assert "2 people" in page.content.decode()

    pick(console, "tag", pk=[three[0].pk, three[1].pk], tag="VIP", how="add")

    assert set(Tag.objects.get(name="VIP").customers.values_list("user_id", flat=True)) == {"ada", "bob"}


@pytest.mark.usefixtures("three")
def test_whole_filtered_list_is_tagged_and_untagged(console):
    query = {"rules": rules(rule("country", "is", "Ireland"))}

    said = pick(console, "tag", query, tag="Irish", how="add")

    irish = Tag.objects.get(name="Irish")
    assert set(irish.customers.values_list("user_id", flat=True)) == {"ada", "eve"}
    assert "rules=" in said.url
    assert "to 2 people." in console.get(said.url).content.decode()
    pick(console, "tag", {"q": "eve"}, tag="irish", how="remove")
    assert set(irish.customers.values_list("user_id", flat=True)) == {"ada"}


def test_unknown_tag_cannot_be_removed(console, three):
    answer = pick(console, "tag", pk=[three[0].pk], tag="Nope", how="remove")

    assert "The tag “Nope” does not exist." in answer.content.decode()
    assert not Tag.objects.exists()


def composed(console, answer) -> dict:
    """Return the rules in the composer that the answer opens. It is a new one-off, which is not saved."""
    assert answer.url.startswith(reverse("admin:messaging_message_add"))
    assert not Message.objects.exists()
    form = console.get(answer.url).context["form"]
    assert form["send_type"].value() == "one_off"
    return json.loads(form["rules"].value())


def asked(found: dict) -> set[str]:
    return set(compiler.matching_customers(found, at=AT).values_list("user_id", flat=True))


@pytest.mark.usefixtures("three")
def test_composer_opens_with_the_rules_of_the_list_and_makes_no_draft(console):
    query = {"rules": rules(rule("country", "is", "Ireland"))}

    assert composed(console, pick(console, "message", query)) == json.loads(query["rules"])

    assert not Audience.objects.exists()
    assert not LogEntry.objects.exists()


def test_filters_that_are_too_long_for_an_address_are_refused(console):
    query = {"rules": rules(*(rule("name", "is_not", "x" * 50) for _ in range(60)))}

    said = console.get(pick(console, "message", query).url).content.decode()

    assert "These filters are too long. Save them as a segment and filter the list by it." in said


def test_text_typed_for_other_people_is_not_restored(console, boss):
    typed = {"fields": {"subject": ["Hello"], "rules": ["{}"]}, "page": uuid4(), "typed_at": AT}
    Autosave.objects.create(teammate=boss, form="message/new", tab=uuid4(), **typed)
    address = pick(console, "message", {"rules": rules(rule("country", "is", "Ireland"))}).url
    assert console.get(address).context["form"]["subject"].value() == ""

    typed["fields"] = {"subject": ["Hello Ireland"], "prefilled": [parse_qs(urlsplit(address).query)["rules"][0]]}
    Autosave.objects.create(teammate=boss, form="message/new", tab=uuid4(), **typed)
    page = console.get(address)

    assert page.context["form"]["subject"].value() == "Hello Ireland"
    assert "Restored what you typed" in page.content.decode()


def test_composer_and_segment_have_the_filters_and_search_of_the_list(console, three):
    tag = TagFactory()
    for customer in three:
        CustomerTagFactory(customer=customer, tag=tag)
    segment = SegmentFactory(rules={"match": "all", "rules": [rule("country", "is", "Ireland")]})
    query = {"rules": rules(rule("name", "is_not", "Eve")), "q": "a", "tags__id__exact": tag.pk}
    query |= {"segment": segment.pk, "role__exact": "user"}

    answer = pick(console, "segment", query, name=" Irish users ")

    assert answer["HX-Redirect"].startswith(f"{LIST}?")
    saved = Audience.objects.get(name="Irish users")
    assert asked(saved.rules) == set(listed_ids(console, **query)) == {"ada"}
    assert asked(composed(console, pick(console, "message", query))) == {"ada"}


@pytest.mark.usefixtures("three")
def test_segment_has_the_rules_that_were_changed_after_the_list_was_shown(console):
    shown, changed = ({"rules": rules(rule("country", "is", country))} for country in ("Ireland", "France"))

    answer = pick(console, "segment", shown, name="French", **changed)

    assert asked(Audience.objects.get().rules) == {"bob"}
    assert parse_qs(urlsplit(answer["HX-Redirect"]).query)["rules"] == [changed["rules"]]
    assert LogEntry.objects.get().change_message == "Created the segment"


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("New", {}, "The list shows everyone. Filter it first."),
        ("", {"q": "ada"}, "Give the segment a name."),
        ("Taken", {"q": "ada"}, "A segment with this name already exists."),
        ("New", {"rules": rules(rule("nothing", "is", "x"))}, "nothing"),
    ],
)
def test_segment_that_cannot_be_saved_is_refused_at_its_name(console, name, query, says):
    SegmentFactory(name="Taken")

    answer = pick(console, "segment", query, name=name)

    assert says in answer.context["wrong"]
    assert f'value="{name}"' in answer.content.decode()
    assert Audience.objects.count() == 1


def test_segment_of_a_list_with_leads_includes_them(console):
    tagged = CustomerTagFactory(customer__lead=True, customer__user_id=None)
    query = {"tags__id__exact": tagged.tag_id}

    pick(console, "segment", query, name="Tagged")

    found = compiler.matching_customers(Audience.objects.get().rules, at=AT)
    assert list(found) == [tagged.customer]
    assert composed(console, pick(console, "message", query)) == Audience.objects.get().rules


def test_address_matches_exactly_in_list_and_composer(console):
    ada = CustomerFactory(name="Ada", email="ada@acme.example")
    CustomerFactory(name="Other", email="x.ada@acme.example")

    assert listed_ids(console, q="Ada@acme.example") == [ada.user_id]
    assert asked(composed(console, pick(console, "message", {"q": "Ada@acme.example"}))) == {ada.user_id}
    assert len(listed_ids(console, q="da@acme.example")) == 2


def test_message_to_ticked_customers_uses_a_new_tag_and_includes_leads(console, three):
    lead = CustomerFactory(lead=True, user_id=None, email="lead@acme.example")

    found = composed(console, tick(console, "message_ticked", three[0], lead))

    assert set(compiler.matching_customers(found, at=AT).values_list("pk", flat=True)) == {three[0].pk, lead.pk}
    assert Tag.objects.get().name.startswith("Picked ")


def exported(answer) -> list[dict[str, str]]:
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_export_contains_the_filtered_list_and_no_formulas(console, three):
    CustomAttributeFactory(name="formula")
    Customer.objects.filter(pk=three[0].pk).update(name="=1+1", attributes={"formula": "@SUM(A1)"})

    rows = exported(pick(console, "export", {"q": "ada"}))

    assert [(row["user_id"], row["name"], row["custom_attributes.formula"]) for row in rows] == [
        ("ada", "'=1+1", "'@SUM(A1)")
    ]


@pytest.mark.usefixtures("three")
def test_export_is_logged_without_the_search_term(console, boss):
    exported(pick(console, "export", {"q": "ada"}))

    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr, entry.change_message) == (boss, "People", "Exported 1 person")
    assert "Exported 1 person" in console.get(reverse("admin:admin_logentry_changelist")).content.decode()


def test_importing_an_export_changes_nothing(console, nudged):
    for kind in ("text", "number", "boolean", "date"):
        CustomAttributeFactory(name=f"a {kind}", kind=kind)
    CustomerFactory(
        user_id="=cmd",
        email="ada@acme.example",
        name="'=x",
        phone="+353 1",
        country="Côte d’Ivoire",
        city='"Q",\n2',
        signed_up_at=AT + timedelta(microseconds=123456),
        last_seen_at=AT,
        first_seen_at=AT,
        timezone="Europe/Dublin",
        unsubscribed_from_emails=True,
        unsubscribed_by_customer_at=AT,
        attributes={"a text": "-5", "a number": -0.0000001, "a boolean": False, "a date": 1777888800},
    )
    CustomerFactory(lead=True, email="lead@acme.example")
    CustomerFactory(lead=True)
    CustomerFactory(user_id="gone", archived=True)
    before = list(Customer.objects.order_by("pk").values())
    file = b"".join(pick(console, "export").streaming_content)

    upload = SimpleUploadedFile("people.csv", file)
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url
    job = Import.objects.get()
    console.post(f"{at}check/", {"target": job.targets})
    job.refresh_from_db()
    assert (job.state, job.made, job.changed, job.unchanged, job.wrong) == (ImportState.CHECKED, 0, 0, 3, 0), list(
        job.problems.values_list("line", "column", "reason")
    )
    console.post(f"{at}write/")

    assert list(Customer.objects.order_by("pk").values()) == before


def test_import_from_upload_to_result(console, boss, nudged):
    CustomerFactory(user_id="1", name="Old")
    upload = SimpleUploadedFile("people.csv", b"user_id,name,Plan\n1,New,pro\n2,Two,\nnull,x,\n")
    page = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}, follow=True)
    at = page.redirect_chain[-1][0]
    assert "New attribute “Plan”" in page.content.decode()

    page = console.post(f"{at}check/", {"target": ["user_id", "name", "new.text.Plan"], "tag": "Fair"}, follow=True)

    text = page.content.decode()
    for words in (
        "1 new customer.",
        "1 customer would change.",
        "1 line would be skipped",
        "a placeholder for a missing value",
    ):
        assert words in text, words
    assert Customer.objects.get().name == "Old"
    assert console.get(f"{at}errors.csv").content.decode().splitlines()[1].startswith("4,user_id,")
    page = console.post(f"{at}write/", follow=True)
    assert "1 customer changed." in page.content.decode()
    assert Customer.objects.get(user_id="1").attributes == {"Plan": "pro"}
    assert CustomerTag.objects.filter(tag__name="Fair").count() == 2


def test_import_page_shows_formats_and_encoding_and_changes_them(console, nudged):
    data = "user_id;Signed up;Zip;Straße\n1;03/04/2026;01234;Köln\n2;05/06/2026;50670;Köln\n".encode("cp1252")
    upload = SimpleUploadedFile("people.csv", data)
    page = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}, follow=True)
    at, text = page.redirect_chain[-1][0], page.content.decode()
    for words in (
        "These dates also fit month first. Check the order.",
        '<option value="day_first" selected>Day first: 03/04/2026 is 3 Apr 2026</option>',
        '<option value="month_first">Month first: 03/04/2026 is 4 Mar 2026</option>',
        '<option value="cp1252" selected>Western European (Windows-1252)</option>',
        "Text (suggested)",
        "01234, 50670",
        "Straße",
    ):
        assert words in text, words
    assert "Number (suggested)" not in text

    text = console.post(f"{at}encoding/", {"encoding": "utf-8"}, follow=True).content.decode()
    assert "2 lines contain bytes that are not valid in UTF-8." in text
    assert "is not an encoding" in console.post(f"{at}encoding/", {"encoding": "x"}).content.decode()
    console.post(f"{at}encoding/", {"encoding": "cp1252"})
    page = console.post(f"{at}check/", {"target": ["user_id", "signed_up_at", "", ""], "date_format": ["x"] * 4})
    assert "“x” is not a date format. Choose one for the column “user_id”." in page.content.decode()
    targets, formats = ["user_id", "signed_up_at", "new.text.Zip", ""], ["iso", "month_first", "iso", "iso"]
    console.post(f"{at}check/", {"target": targets, "date_format": formats})
    console.post(f"{at}write/")

    one = Customer.objects.get(user_id="1")
    assert (one.signed_up_at.date().isoformat(), one.attributes) == ("2026-03-04", {"Zip": "01234"})


def test_import_page_shows_repeated_customers_before_anything_is_written(console, nudged, monkeypatch):
    from outbound.people.csv_import import pages

    monkeypatch.setattr(pages, "SHOWN_PROBLEMS", 1)
    upload = SimpleUploadedFile("people.csv", b"user_id,name\n1,Ada\n1,Ida\n1,Ida\n1,Eda\n")
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url

    text = console.post(f"{at}check/", {"target": ["user_id", "name"]}, follow=True).content.decode()

    for words in (
        "3 lines repeat a customer of an earlier line, and 2 of them would change the customer again.",
        "“Ada” from line 2 or before becomes “Ida”.",
        "The first 1 change is shown.",
    ):
        assert words in text, words
    assert not Customer.objects.exists()


def test_lines_of_an_import_are_listed_with_their_effects(console, nudged, monkeypatch):
    from outbound.people.csv_import import lines

    monkeypatch.setattr(lines, "LINES_PER_PAGE", 3)
    CustomAttributeFactory(name="renews", kind="date")
    ada = CustomerFactory(user_id="1", name="Ada", archived=True, attributes={"renews": 1780185600})
    data = (
        "user_id,name,signed_up_at,renews,unsubscribed,tags,company\n1,Ida,2026-05-01,2026-06-01,yes,VIP,Acme\n"
        "null,,,,,,\n2,Bob,,,,,\n3,Cyd,,,,,\n3,Cid,,,,,\n"
    )
    upload = SimpleUploadedFile("people.csv", data.encode())
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url
    console.post(f"{at}check/", {"target": Import.objects.get().targets})
    assert "Show the lines" in console.post(f"{at}write/", follow=True).content.decode()

    text = console.get(f"{at}lines/").content.decode()
    for words in (
        f'<a href="{reverse("admin:audiences_customer_change", args=[ada.pk])}">Ida</a>',
        "Name: “Ada” → “Ida”",
        "Signed up: empty → 1 May 2026, 00:00",
        "renews: 31 May 2026, 00:00 → 1 Jun 2026, 00:00",
        "Unsubscribed from emails: no → yes",
        "Restored from the archive",
        "Tags: added “VIP”",
        "Companies: added “Acme”",
        "Skipped. user_id: ",
        "Created",
        "?after=4",
    ):
        assert words in text, words
    rest = console.get(f"{at}lines/?after=4").content.decode()
    assert "Name: “Cyd” → “Cid”" in rest
    assert "?after=" not in rest
    assert "No line after 99 had an effect." in console.get(f"{at}lines/?after=99").content.decode()
    assert console.get(f"{at}lines/?after=x").status_code == 200


def test_import_is_undone_and_the_page_says_what_was_not(console, nudged):
    ada = CustomerFactory(user_id="1", name="Ada")
    bob = CustomerFactory(user_id="2", name="Bob")
    upload = SimpleUploadedFile("people.csv", b"user_id,name\n1,Ida\n2,Rob\n3,Cyd\n")
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url
    assert "cannot be undone" in console.post(f"{at}undo/").content.decode()
    console.post(f"{at}check/", {"target": ["user_id", "name"]})
    assert "Undo this import" in console.post(f"{at}write/", follow=True).content.decode()
    Customer.objects.filter(pk=bob.pk).update(name="Rub")

    text = console.post(f"{at}undo/", follow=True).content.decode()

    for words in (
        "2 lines undone.",
        "1 line not undone, or not completely.",
        "Changed since the import, so not undone: Name.",
    ):
        assert words in text, words
    assert "Undo this import" not in text
    names = dict(Customer.objects.filter(archived_at=None).values_list("pk", "name"))
    assert names == {ada.pk: "Ada", bob.pk: "Rub"}
    assert (
        "Undid the import of “people.csv”" in console.get(reverse("admin:admin_logentry_changelist")).content.decode()
    )
    assert "Changed since the import" in console.get(f"{at}lines/").content.decode()


def test_worker_continues_a_large_import(console, monkeypatch, nudged):
    from outbound.people.csv_import import pages

    asked: list[int] = []
    monkeypatch.setattr(tasks, "enqueue_import", asked.append)
    monkeypatch.setattr(pages, "TIME_IN_REQUEST", timedelta(0))
    upload = SimpleUploadedFile("people.csv", b"user_id\n1\n2\n")
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url
    job = Import.objects.get()
    assert "Reading the file" in console.get(at).content.decode()
    tasks.go_on_importing(job.pk)
    page = console.post(f"{at}check/", {"target": ["user_id"]}, follow=True).content.decode()
    assert asked == [job.pk, job.pk]
    assert "hx-trigger" in page
    assert "progressbar" in page

    tasks.go_on_importing(job.pk)

    assert "2 new customers." in console.get(at).content.decode()


def test_too_large_file_shows_field_error(console, monkeypatch):
    from outbound.people.csv_import import pages

    monkeypatch.setattr(pages, "MAX_UPLOAD_BYTES", 10)
    upload = SimpleUploadedFile("people.csv", b"user_id\n1\n2\n")

    page = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload})

    assert "larger than 1 GB" in page.content.decode()
    assert not Import.objects.exists()


def test_errors_beyond_the_limit_are_counted(console, monkeypatch, nudged):
    from audiences.intake.csv_import import slices

    monkeypatch.setattr(slices, "MAX_PROBLEMS", 2)
    upload = SimpleUploadedFile("people.csv", b"email\n" + b"nobody\n" * 5)
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url
    page = console.post(f"{at}check/", {"target": ["email"]}, follow=True).content.decode()

    assert "3 more lines have errors, which are not stored." in page
    assert (
        console.get(f"{at}errors.csv")
        .content.decode()
        .splitlines()[-1]
        .endswith("3 more lines have an error that is not stored.")
    )


def test_columns_without_an_identifier_are_refused(console, nudged):
    upload = SimpleUploadedFile("people.csv", b"name\nAda\n")
    at = console.post(reverse("admin:customer_import_file"), {"kind": "customers", "file": upload}).url

    page = console.post(f"{at}check/", {"target": ["name"]})

    assert "One column must identify the customer" in page.content.decode()


@pytest.mark.parametrize("verb", ["tag", "export", "message"])
def test_viewer_cannot_use_bulk_actions(log_in_with, three, verb):
    console = log_in_with("audiences.view_customer")
    assert console.get(LIST).status_code == 200

    assert pick(console, verb, tag="x", how="add").status_code == 403
    assert console.get(reverse("admin:customer_import_file")).status_code == 403
    assert console.get(reverse("admin:customer_picked", args=[verb])).status_code == 303


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("search", ["%00", "a%00b@acme.example", "%00%00 x"])
def test_search_accepts_characters_that_cannot_be_stored(console, search):
    assert console.get(f"{LIST}?q={search}").status_code == 200
    for verb in ("message", "export", "tag"):
        address = reverse("admin:customer_picked", args=[verb])
        assert console.post(f"{address}?q={search}", {"tag": "a\0", "how": "remove"}).status_code in (200, 302)
