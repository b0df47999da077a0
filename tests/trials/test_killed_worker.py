"""A worker is killed in the middle of 2,000 emails, five times: no customer gets two emails, and none is left out."""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.utils import timezone

from audiences.models import Customer
from config.supervisor import Running
from delivery import rendering
from delivery.maintenance import sweep
from delivery.matching import ongoing
from delivery.models import Status
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.mail_catcher import Catcher
from tests.trials.conftest import eventually

pytestmark = [pytest.mark.long, pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PEOPLE = 2_000


@dataclass(frozen=True, slots=True)
class Kill:
    """The moment of the kill: at the nth email, once it is addressed or accepted, plus a delay."""

    mail: int
    step: str
    later: float = 0.0

    def __str__(self) -> str:
        return f"mail {self.mail:>5} {self.step}" + (f", {self.later * 1000:.0f} ms later" if self.later else "")


# The first two cannot be told apart: accepted, but the worker does not hear of it; and not accepted.
KILLS = [
    Kill(183, "taken"),
    Kill(530, "addressed"),
    Kill(911, "taken", 0.003),
    Kill(1_302, "taken", 0.011),
    Kill(1_748, "addressed", 0.023),
]


def kill_at(kill: Kill, worker: Running, catcher: Catcher) -> threading.Event:
    """Kill the worker and all its processes at that moment, then set the event."""
    killed = threading.Event()

    def meanwhile(number: int, step: str) -> None:
        if killed.is_set() or number < kill.mail or step != kill.step:
            return
        killed.set()  # before the kill: whoever sees the worker gone must find the reason
        if kill.later:
            threading.Timer(kill.later, worker.kill).start()
        else:
            worker.kill()

    catcher.meanwhile = meanwhile
    return killed


def test_killed_worker_repeats_nothing_and_loses_nothing(
    at, catcher: Catcher, celery: Callable[..., Running], nudge: Callable[[], object], capsys
):
    Customer.objects.bulk_create(CustomerFactory.build(email=f"{n}@x.example") for n in range(PEOPLE))
    message = MessageFactory(subject="Hello {{ user_id }}", live=True, at=at)
    assert ongoing.match(message, at=at) == PEOPLE

    table = []
    for kill in KILLS:
        before = message.records.counts()["uncertain"]
        worker = celery("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")
        killed = kill_at(kill, worker, catcher)
        nudge()
        eventually(killed.is_set, within=60, while_running=(worker,))
        eventually(lambda: worker.is_gone, within=5)  # noqa: B023 - asked at once
        assert message.records.counts()["sending"] <= settings.IN_FLIGHT + settings.EMAIL_CONNECTIONS
        # From the journal, the next sweep knows the copies that had not begun and those that were accepted.
        sweep.sweep(at=timezone.now())
        counts = message.records.counts()
        table.append((kill, len(catcher.caught), counts["sent"], counts["waiting"], counts["uncertain"] - before))
        assert counts["sending"] == 0
        assert counts["waiting"] > 0

    catcher.meanwhile = lambda _number, _step: None
    worker = celery("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")
    nudge()
    eventually(lambda: not message.records.filter(status__in=["waiting", "sending"]).exists(), within=90)
    with capsys.disabled():
        sys.stdout.write(as_text(table, message, catcher))

    records = {r.customer.email: r for r in message.records.select_related("customer")}
    caught = Counter(mail.recipient for mail in catcher.caught)
    ids = Counter(mail.message_id for mail in catcher.caught)
    assert max(caught.values()) == 1
    assert max(ids.values()) == 1
    assert len(records) == PEOPLE
    assert {record.status for record in records.values()} <= {Status.SENT, Status.UNCERTAIN}
    assert {email for email, record in records.items() if record.status == Status.SENT} <= caught.keys()
    assert all(mail.message_id == rendering.message_id(records[mail.recipient].pk) for mail in catcher.caught)
    in_doubt = [in_doubt for *_, in_doubt in table]
    assert max(in_doubt) <= settings.EMAIL_CONNECTIONS
    assert sum(in_doubt) == message.records.counts()["uncertain"]
    # These two always leave an uncertain copy, unless the kill came too late.
    assert min(in_doubt[:2]) >= 1


def as_text(table: list[tuple[Kill, int, int, int, int]], message: Message, catcher: Catcher) -> str:
    """The result of one kill."""
    counts = message.records.counts()
    end = ("end", len(catcher.caught), counts["sent"], counts["waiting"], counts["uncertain"])
    head = f"\n{'killed at':<34}{'caught':>8}{'sent':>8}{'waiting':>9}{'uncertain':>10}\n"
    return head + "".join(
        f"{kill!s:<34}{caught:>8}{sent:>8}{waiting:>9}{in_doubt:>10}\n"
        for kill, caught, sent, waiting, in_doubt in [*table, end]
    )
