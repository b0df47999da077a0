"""Opening the Outbound list at 10,000 messages and 5,000,000 records, over a plain admin list of the same rows."""

from time import perf_counter

from django.contrib import admin  # noqa: TID251 - the benchmark measures an admin list
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from audiences.models import Audience
from benchmarks import population
from benchmarks.measure import Row, measure_alternately, ratio_row
from delivery.models import DeliveryRecord
from delivery.reporting import counters
from messaging.models import Message, Sender
from outbound.console.admin import ConsoleAdmin
from outbound.messages.admin import MessageAdmin

MESSAGES, RECORDS, CUSTOMERS, COMPANIES = 10_000, 5_000_000, 100_000, 1_000
VIEWS = 5

RECORDS_OF_EACH = """
SET LOCAL session_replication_role = replica;
INSERT INTO delivery_deliveryrecord (message_id, customer_id, status, reason, due_at, matched_at, sent_at, opened_at,
    clicked_at, detail, attempts, provider_id, variables)
SELECT m.id, 1 + (m.id * 7 + n) %% %(customers)s, CASE WHEN n %% 10 = 0 THEN 'waiting' ELSE 'sent' END,
    CASE WHEN n %% 10 = 0 THEN 'queued' ELSE '' END, CASE WHEN n %% 10 = 0 THEN now() END, now(),
    CASE WHEN n %% 10 <> 0 THEN now() - make_interval(hours => n %% 14 * 12) END,
    CASE WHEN n %% 10 <> 0 AND n %% 3 = 0 THEN now() END, CASE WHEN n %% 10 <> 0 AND n %% 9 = 0 THEN now() END,
    '', 1, '', '{}'
FROM messaging_message m CROSS JOIN generate_series(1, %(each)s) n
"""


class PlainList(ConsoleAdmin):
    """A plain Django admin list of the same columns."""

    list_display = (
        "title",
        "send_type",
        "channel",
        "state",
        "window_zone",
        "style",
        "sender",
        "created_at",
        "went_live_at",
    )
    list_filter = ("channel", "state", "sender", "tags", "send_type")
    list_select_related = ("to_customer", "sender")
    search_fields = ("title",)
    ordering = ("-pk",)


def fill() -> None:
    """Create the messages, and their records by SQL; count them once, as the migration does."""
    population.create_population(customers=CUSTOMERS, companies=COMPANIES)
    sender = Sender.objects.create(name="Bench", email="bench@example.com")
    audiences = Audience.objects.bulk_create([Audience() for _ in range(MESSAGES)])
    now = timezone.now()
    Message.objects.bulk_create(
        [
            Message(
                title=f"Message {n}",
                channel=("email", "in_app")[n % 2],
                format=("", "chat")[n % 2],
                send_type=("ongoing", "one_off")[n % 3 == 0],
                sender=sender,
                audience=audience,
                state="live",
                went_live_at=now,
            )
            for n, audience in enumerate(audiences)
        ]
    )
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(RECORDS_OF_EACH, {"customers": CUSTOMERS, "each": RECORDS // MESSAGES})
        cursor.execute("COMMIT")
    counters.recount_all()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def measure(*, times: int = 7) -> list[Row]:
    """Measure the complete rendering of the first page, alternately."""
    fill()
    boss, _ = User.objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    ours, plain = MessageAdmin(Message, admin.site), PlainList(Message, admin.site)

    def opening(pages: ConsoleAdmin) -> float:
        start = perf_counter()
        for _ in range(VIEWS):
            request = RequestFactory().get("/admin/messaging/message/")
            request.user = boss
            assert pages.changelist_view(request).render().content
        return perf_counter() - start

    opening(ours), opening(plain)
    pairs = measure_alternately(lambda: opening(ours), lambda: opening(plain), times=times)
    taken = sorted(a for a, _ in pairs)[len(pairs) // 2] / VIEWS
    note = (
        f"{Message.objects.count():,} messages, {DeliveryRecord.objects.count():,} records; ours {taken * 1000:.0f} ms"
    )
    return [ratio_row("Outbound list / plain admin list", [a / b for a, b in pairs], at_most=1.5, note=note)]
