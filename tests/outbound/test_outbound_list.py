"""The Outbound list: its tabs, its filters, and what each row says."""

import pytest
from django.utils import timezone

from audiences.models import Workspace
from delivery.models import DeliveryRecord, Status
from messaging.models import Message
from tests.factories import AT, CustomerFactory, MessageFactory, SenderFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/messaging/message/"


def titles(answer) -> set[str]:
    return {message.title for message in answer.context["cl"].result_list}


@pytest.fixture
def of_each() -> None:
    MessageFactory(title="ongoing email", live=True)
    MessageFactory(title="ongoing chat", in_app=True)
    MessageFactory(title="one-off email", one_off=True)
    MessageFactory(title="to Ada", to_customer=CustomerFactory(name="Ada"), in_app=True)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"ongoing email", "ongoing chat", "one-off email"}),
        ("send_type__exact=ongoing", {"ongoing email", "ongoing chat"}),
        ("send_type__exact=one_off", {"one-off email"}),
        ("to=one_person", {"to Ada"}),
        ("state__exact=live", {"ongoing email"}),
        ("channel__exact=in_app", {"ongoing chat"}),
        ("send_type__exact=ongoing&channel__exact=email", {"ongoing email"}),
        ("q=CHAT", {"ongoing chat"}),
        ("q=nothing", set()),
        ("to=nonsense", {"ongoing email", "ongoing chat", "one-off email"}),
    ],
)
@pytest.mark.usefixtures("of_each")
def test_shows_what_is_asked_for(console, query, shown):
    assert titles(console.get(f"{LIST}?{query}")) == shown


@pytest.mark.usefixtures("of_each")
def test_filters_by_sender(console):
    own = SenderFactory(name="Grace")
    MessageFactory(title="from Grace", sender=own)

    assert titles(console.get(f"{LIST}?sender__id__exact={own.pk}")) == {"from Grace"}


@pytest.mark.parametrize(
    ("query", "active"), [("", "All"), ("?send_type__exact=one_off", "One-off"), ("?to=one_person", "")]
)
def test_the_open_tab_is_marked(console, query, active):
    page = console.get(f"{LIST}{query}").content.decode()

    marked = page.split('aria-current="page">')[1].split("<")[0] if 'aria-current="page"' in page else ""
    assert marked == active


def test_says_whom_a_message_to_one_person_went_to(console):
    MessageFactory(title="Hello", to_customer=CustomerFactory(name="Ada <script>"), in_app=True)

    page = console.get(f"{LIST}?to=one_person").content.decode()

    assert "To Ada &lt;script&gt;" in page


def test_counts_what_was_sent_opened_and_waits(console):
    CustomerFactory.create_batch(4, email=None)
    message = MessageFactory(in_app=True, one_off=True, live=True)
    records = list(DeliveryRecord.objects.order_by("pk"))
    DeliveryRecord.objects.filter(pk__in=[record.pk for record in records[:3]]).update(
        status=Status.SENT, sent_at=AT, reason=""
    )
    DeliveryRecord.objects.filter(pk=records[0].pk).update(opened_at=AT)

    row = console.get(LIST).context["cl"].result_list[0]

    assert row == message
    assert row.figures == {"waiting": 1, "sent": 3, "opened": 1, "clicked": 0, "replied": 0}
    assert "33 %" in console.get(LIST).content.decode()


def test_queries_do_not_grow_with_the_rows(console, django_assert_max_num_queries):
    def make(count: int) -> None:
        for _ in range(count):
            MessageFactory(to_customer=None, sender=SenderFactory())

    make(2)
    console.get(LIST)
    with django_assert_max_num_queries(100) as few:
        console.get(LIST)
    make(12)
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(LIST)


def test_a_message_in_trouble_says_so(console):
    message = MessageFactory(live=True)
    Message.objects.filter(pk=message.pk).update(trouble="A rule names a tag that is gone.")

    assert "Trouble" in console.get(LIST).content.decode()
    assert "A rule names a tag that is gone." in console.get(f"{LIST}{message.pk}/change/").content.decode()


def test_times_are_on_the_workspaces_clock(console):
    workspace = Workspace.current()
    workspace.zone = "Asia/Tokyo"
    workspace.save()
    MessageFactory(live=True, at=AT)

    assert "4 May 2026, 19:00" in console.get(LIST).content.decode()
    assert timezone.get_current_timezone_name() == "UTC"
