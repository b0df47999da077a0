"""Double opt-in: which paths ask a lead to confirm an address, and when (behaviour 4.30)."""

import json
from datetime import timedelta

import pytest
from django.db import connection

from audiences import intake
from audiences.intake import Source, bulk_jobs
from audiences.intake.attributes.fields import raise_refusal
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import ConfirmationMail, Customer, Workspace
from audiences.models.consent import askable_customers, has_not_confirmed
from delivery.customers import merge
from delivery.sending.urgent.confirmation_emails import CONFIRMATION_EMAILS
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def is_on() -> None:
    Workspace.current()
    Workspace.objects.update(double_opt_in=True)


def asked() -> set[str]:
    return set(ConfirmationMail.objects.values_list("address", flat=True))


@pytest.mark.parametrize("source", [Source.REST, Source.BROWSER])
def test_lead_who_gives_or_changes_an_address_is_asked(source, at):
    lead = intake.save_lead({"email": "one@x.example"}, at=at, source=source)
    assert asked() == {"one@x.example"}

    intake.save_lead({"name": "Bea"}, lead=lead, at=at + HOUR, source=source)
    intake.save_lead({"email": "two@x.example"}, lead=lead, at=at + HOUR, source=source)
    assert asked() == {"one@x.example", "two@x.example"}
    # Back within a day: the first email still confirms the address.
    intake.save_lead({"email": "one@x.example"}, lead=lead, at=at + 2 * HOUR, source=source)
    assert {row.requested_at - at for row in ConfirmationMail.objects.all()} == {0 * HOUR, HOUR}
    intake.save_lead({"email": None}, lead=lead, at=at + 3 * HOUR, source=source)
    assert len(asked()) == 2


def test_lead_whom_rest_names_by_id_is_asked(at):
    lead = CustomerFactory(lead=True)

    intake.identify({"id": str(lead.pk), "email": "bea@x.example"}, at=at)

    assert asked() == {"bea@x.example"}


def test_users_and_imports_are_not_asked(at):
    intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=at)
    intake.identify({"email": "bob@x.example"}, at=at)
    row = {**dict.fromkeys(COLUMNS), "line": 1, "email": "eve@x.example", "attributes": json.dumps({})}
    with connection.cursor() as cursor:
        upsert_slice(cursor, [[row[name] for name in COLUMNS]], tag=None, at=at, with_relations=True)
    lead = CustomerFactory(lead=True)
    merge.log_in(lead, {"email": "ida@x.example"}, at=at, source=Source.REST, on_bad_value=raise_refusal)

    assert Customer.objects.filter(email__isnull=False).count() == 4
    assert asked() == set()


def test_user_whose_address_only_a_browser_stated_is_asked_and_not_once_it_is_proved(at):
    ann = intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=at, source=Source.BROWSER)
    intake.identify({"email": "bob@x.example"}, at=at, source=Source.BROWSER)
    assert asked() == {"ann@x.example"}
    assert has_not_confirmed(ann)

    ann = intake.identify({"user_id": "ann", "email": "ann@x.example"}, at=at)

    assert not has_not_confirmed(ann)


@pytest.mark.parametrize("knows_the_user", [False, True])
def test_visitor_who_signs_in_without_an_address_still_has_to_confirm_the_one_they_typed(knows_the_user, at):
    if knows_the_user:
        CustomerFactory(user_id="eve")
    lead = intake.save_lead({"email": "victim@x.example"}, at=at, source=Source.BROWSER)

    user = merge.log_in(lead, {"user_id": "eve"}, at=at, source=Source.BROWSER, on_bad_value=raise_refusal)

    user.refresh_from_db()
    assert (user.role, user.email) == ("user", "victim@x.example")
    assert has_not_confirmed(user)
    assert list(askable_customers()) == [user]
    assert CONFIRMATION_EMAILS.reason_not_to_send(ConfirmationMail.objects.get(), at=at) == ""


def test_bulk_job_asks_the_lead_whom_it_names_by_id(at):
    lead = CustomerFactory(lead=True)
    data = {"id": str(lead.pk), "email": "bea@x.example"}

    bulk_jobs.submit_job([{"method": "post", "data": data}], data_type="user", to=None, at=at)
    assert bulk_jobs.process_jobs(clock=lambda: at, go_on=lambda: True) == 1

    assert asked() == {"bea@x.example"}


def test_nobody_is_asked_while_it_is_off(at):
    Workspace.objects.update(double_opt_in=False)

    intake.save_lead({"email": "bea@x.example"}, at=at)

    assert asked() == set()


def test_confirmation_ends_with_the_address_in_the_returned_row(at):
    lead = intake.save_lead({"email": "one@x.example"}, at=at)
    Customer.objects.update(opted_in_at=at)

    changed = intake.save_lead({"email": "two@x.example"}, lead=lead, at=at)

    assert changed.opted_in_at is None


def test_teammates_ask_again_after_a_day(at):
    lead = intake.save_lead({"email": "bea@x.example"}, at=at)

    asked = [intake.ask_again(lead, at=at + later) for later in (HOUR, DAY, DAY + HOUR)]

    assert [(is_asked, mail.requested_at) for is_asked, mail in asked] == [
        (False, at),
        (True, at + DAY),
        (False, at + DAY),
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"email": None},
        {"role": "user", "email_is_said": False},
        {"opted_in_at": "2026-05-04T10:00Z"},
        {"archived_at": "2026-05-04T10:00Z"},
        {"unsubscribed_from_emails": True},
        {"has_hard_bounced": True},
        {"marked_email_as_spam": True},
    ],
)
def test_teammates_do_not_ask_if_there_is_nothing_to_confirm(facts, at):
    lead = CustomerFactory(**{"lead": True, "email": "bea@x.example", **facts})

    with pytest.raises(intake.Unknown):
        intake.ask_again(lead, at=at)

    assert asked() == set()
