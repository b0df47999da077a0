"""Real workers with many copies in flight to a slow mail server: killed in the middle, and sharing its connections."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone

from audiences.models import Customer
from config.supervisor import Running
from delivery.maintenance import sweep
from delivery.matching import ongoing
from delivery.models import ConnectionShare, Status
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.slow_server import SlowServer, slow_server
from tests.trials.conftest import eventually

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CONNECTIONS = 12
WORKER = ("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")


@pytest.fixture
def server(environment) -> Iterator[SlowServer]:
    """A mail server with 50 ms per answer, to which the workers send."""
    with slow_server(delay=0.05) as server:
        environment |= {"EMAIL_URL": server.url, "EMAIL_CONNECTIONS": str(CONNECTIONS)}
        yield server


def to_people(number: int, at) -> Message:
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(number))
    message = MessageFactory(subject="Hello {{ user_id }}", live=True, at=at)
    assert ongoing.match(message, at=at) == number
    return message


def is_settled(message: Message) -> bool:
    return not message.records.filter(status__in=[Status.WAITING, Status.SENDING]).exists()


def test_killed_worker_leaves_at_most_the_copies_in_flight_uncertain(
    at, server: SlowServer, celery: Callable[..., Running], nudge: Callable[[], object]
):
    message = to_people(500, at)
    for kill in range(3):
        before, begun = message.records.counts()["uncertain"], len(server.emails)
        unanswered = server.in_flight + server.unread
        worker = celery(*WORKER)
        nudge()
        eventually(
            lambda: server.connections >= 8 and len(server.emails) >= begun + 40 + 13 * kill,  # noqa: B023 - asked at once
            within=60,
            while_running=(worker,),
        )
        worker.kill()
        eventually(lambda: worker.is_gone and not server.connections, within=10)  # noqa: B023 - asked at once
        in_flight = server.in_flight + server.unread - unanswered

        sweep.sweep(at=timezone.now())

        counts = message.records.counts()
        assert 0 < counts["uncertain"] - before <= in_flight <= CONNECTIONS
        assert counts["sending"] == 0

    celery(*WORKER)
    nudge()
    eventually(lambda: is_settled(message), within=90)

    got = Counter(email.recipient for email in server.emails)
    counts = message.records.counts()
    assert max(got.values()) == 1
    assert counts["sent"] + counts["uncertain"] == 500
    sent = message.records.filter(status=Status.SENT).values_list("customer__email", flat=True)
    assert set(sent) <= {email.recipient for email in server.emails if email.message_id}


def test_every_worker_process_takes_part_in_a_backlog_and_they_share_the_connections(
    at, server: SlowServer, environment, celery: Callable[..., Running], nudge: Callable[[], object]
):
    environment["WORKER_CONCURRENCY"] = "3"
    message = to_people(1_500, at)
    worker = celery(*WORKER)
    nudge()

    eventually(lambda: ConnectionShare.objects.filter(in_use__gte=2).count() == 3, within=60, while_running=(worker,))
    eventually(lambda: is_settled(message), within=120, while_running=(worker,))

    assert message.records.counts()["sent"] == 1_500
    assert Counter(email.recipient for email in server.emails).most_common(1)[0][1] == 1
    assert server.most_connections <= CONNECTIONS
