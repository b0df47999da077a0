"""Counts of a message that goes once for each company: only companies that match its rules count (behaviour 4.3)."""

import pytest
from rest_framework.test import APIClient

from audiences.models import Integration, Workspace
from delivery.matching import forecast, launch
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Message, SendType
from tests.factories import AT, CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory, SenderFactory, rule
from tests.outbound.composer.test_composer import FORECAST, SHEET, message_page, typed
from tests.support.pages import as_words

pytestmark = pytest.mark.django_db
ABOUT_THE_COMPANY = "<p>News for {{ company.name }}</p>"
ON_PRO = [rule("company.plan", "is", "pro")]


@pytest.fixture
def people() -> None:
    """Ann is in two companies on Pro and two others, Eve is unsubscribed; no company of the others matches."""
    pro, free = CompanyFactory(name="Acme", plan="pro"), CompanyFactory(name="Globex", plan="free")
    gone = CompanyFactory(name="Initech", plan="pro", archived=True)
    ann, bob, dan, eve = (
        CustomerFactory(name=name, email=f"{name.lower()}@x.example", unsubscribed_from_emails=name == "Eve")
        for name in ("Ann", "Bob", "Dan", "Eve")
    )
    CustomerFactory(name="Cat", email="cat@x.example")
    members = (
        (ann, pro),
        (ann, CompanyFactory(plan="pro")),
        (ann, free),
        (ann, gone),
        (bob, free),
        (dan, gone),
        (eve, pro),
    )
    for customer, company in members:
        MembershipFactory(customer=customer, company=company)


@pytest.mark.usefixtures("people")
def test_every_count_before_and_after_a_launch_counts_only_companies_that_match(console, settings):
    settings.API_RATE_LIMIT = 0
    Workspace.objects.update_or_create(pk=1, defaults={"confirm_above": 0})
    form = typed(SenderFactory(), body=ABOUT_THE_COMPANY, rules=ON_PRO, send_type="one_off")
    draft = MessageFactory(body=ABOUT_THE_COMPANY, rules=ON_PRO, one_off=True)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='Deploy')[1]}")

    composer = console.post(FORECAST, form)
    sheet = as_words(console.post(SHEET, {**form, "act": "live"}).content.decode())
    reviewed = api.get(f"/api/outbound/{draft.pk}/review").json()
    console.post(message_page(draft), {**form, "act": "live", "reviewed": "2", "receiving": "1", "confirm": "1"})

    assert "2 match now, 1 will receive it" in as_words(composer.content.decode())
    assert {one.name for one in composer.context["matching"]} == {"Ann", "Eve"}
    assert "1 person gets 2 messages, one for each of their companies that match." in as_words(
        composer.content.decode()
    )
    assert "1 person will receive it, in 2 messages" in sheet
    assert "type the number of people it goes to: 1" in sheet
    assert "Ann" in sheet
    assert "Eve" not in sheet
    assert (reviewed["reviewed"], reviewed["receiving"], reviewed["copies"], reviewed["confirm"]) == (2, 1, 2, 1)
    draft.refresh_from_db()
    records = DeliveryRecord.objects.order_by("status", "pk")
    assert [(one.customer.name, one.company.plan, one.status) for one in records] == [
        ("Eve", "pro", Status.SKIPPED),
        ("Ann", "pro", Status.WAITING),
        ("Ann", "pro", Status.WAITING),
    ]
    assert draft.audience_count == 3
    statuses = console.get(message_page(draft)).context["statuses"]
    assert (statuses["records"], statuses["people"]) == (3, 2)


@pytest.mark.usefixtures("people")
def test_schedule_keeps_the_number_of_people_at_matching_companies_for_the_drift_check(console):
    form = typed(SenderFactory(), body=ABOUT_THE_COMPANY, rules=ON_PRO, send_type="one_off")
    draft = MessageFactory(one_off=True)

    console.post(
        message_page(draft),
        {**form, "act": "schedule", "scheduled_for": "2999-05-04T09:30", "reviewed": "2", "receiving": "1"},
    )

    assert Message.objects.get(pk=draft.pk).reviewed_count == 2


def test_customer_left_out_at_one_company_and_reached_at_another_counts_as_receiving():
    shared, own = CompanyFactory(), CompanyFactory()
    first, second = CustomerFactory(email="team@x.example"), CustomerFactory(email="team@x.example")
    for customer, company in ((first, shared), (second, shared), (second, own)):
        MembershipFactory(customer=customer, company=company)
    third = CustomerFactory(email="team@x.example")
    MembershipFactory(customer=third, company=shared)
    message = MessageFactory(body=ABOUT_THE_COMPANY, rules=[], send_type=SendType.ONE_OFF)

    found = forecast.forecast(message, at=AT)

    assert (found.people, found.receiving, found.copies) == (3, 2, 2)
    assert found.left_out == {Reason.SAME_INBOX: 1}
    assert launch.launch(message, at=AT) == 4
