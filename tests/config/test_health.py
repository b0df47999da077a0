"""`/healthz`, `/metrics` and JSON logs."""

import json
import logging
import socket
import sys
from datetime import timedelta

import pytest
import time_machine
from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from config.celery import app
from config.logs import JsonLines
from delivery import schedule, tasks
from delivery.channels import CHANNELS
from delivery.maintenance import sweep
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Heartbeat, MachineClock
from delivery.monitoring import health
from delivery.sending import dispatcher
from delivery.telemetry import metrics
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
SECRET_BODY = "Nobody may read this in a log"


@pytest.fixture
def now():
    return timezone.now()


@pytest.fixture(autouse=True)
def schedule_is_new(db, now) -> None:
    PeriodicTask.objects.update(date_changed=now)


def asked(client) -> tuple[int, dict]:
    answer = client.get("/healthz")
    return answer.status_code, answer.json()


def test_healthz_is_200_if_every_part_ran_recently(client, now):
    schedule.install()
    PeriodicTask.objects.update(last_run_at=now - timedelta(minutes=1))
    health.record_sweep(at=now - timedelta(seconds=20))

    code, found = asked(client)

    assert (code, found["ok"]) == (200, True)
    assert set(found) == {"ok", "database", "broker", "clock", "beat", "sweep", "oldest_due"}
    assert 20 <= found["sweep"]["seconds"] <= 40
    assert found["oldest_due"]["at"] is None


def test_new_schedule_that_has_not_run_is_healthy(client):
    assert asked(client)[0] == 200


def test_old_schedule_that_never_ran_is_unhealthy(client, now):
    schedule.install()
    PeriodicTask.objects.update(date_changed=now - timedelta(hours=1), last_run_at=None)

    code, found = asked(client)

    assert (code, [name for name, each in found.items() if name != "ok" and not each["ok"]]) == (503, ["beat", "sweep"])
    assert found["beat"] == {"ok": False, "at": None, "seconds": None}


def late_sweep(now) -> None:
    health.record_sweep(at=now - timedelta(minutes=4))


def late_beat(now) -> None:
    schedule.install()
    PeriodicTask.objects.update(last_run_at=now - timedelta(minutes=16))


def copy_due(now) -> None:
    CustomerFactory(email="ann@x.example")
    ongoing.match(MessageFactory(live=True, at=now), at=now)
    DeliveryRecord.objects.update(due_at=now - timedelta(minutes=11))


@pytest.mark.parametrize(("what", "happens"), [("sweep", late_sweep), ("beat", late_beat), ("oldest_due", copy_due)])
def test_late_part_is_a_503_that_names_it(client, now, what, happens):
    happens(now)

    code, found = asked(client)

    assert code == 503
    assert [name for name, each in found.items() if name != "ok" and not each["ok"]] == [what]
    assert found[what]["seconds"] > 180


@pytest.mark.parametrize(("seconds", "status"), [(29, 200), (31, 503), (-31, 503), (600, 503)])
def test_wrong_clock_of_this_machine_is_unhealthy_from_30_seconds_on(client, now, seconds, status):
    with time_machine.travel(now + timedelta(seconds=seconds)):
        code, found = asked(client)

    assert (code, found["clock"]["ok"]) == (status, status == 200)
    assert abs(found["clock"]["seconds_ahead"] - seconds) < 1


def test_long_send_is_healthy(client, now):
    copy_due(now)
    CustomerFactory(email="bob@x.example")
    ongoing.match(Message.objects.get(), at=now)
    first = DeliveryRecord.objects.order_by("pk")[:1].values("pk")
    mark_records_sent(DeliveryRecord.objects.filter(pk__in=first), at=now - timedelta(minutes=1))
    DeliveryRecord.objects.exclude(pk__in=first).update(due_at=now - timedelta(minutes=11))

    code, found = asked(client)

    assert (code, found["oldest_due"]["ok"]) == (200, True)
    assert found["oldest_due"]["seconds"] > 600


def test_missing_broker_is_reported_within_seconds(client, monkeypatch):
    nowhere = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(app, "connection_for_write", lambda **_: app.connection(nowhere, connect_timeout=1))

    code, found = asked(client)

    assert (code, found["broker"]) == (503, {"ok": False})


def test_missing_database_is_reported(client, monkeypatch):
    def gone(**_: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(health, "health_report", gone)

    code, found = asked(client)

    assert (code, found["database"]) == (503, {"ok": False})


def test_completed_sweep_is_recorded(monkeypatch, now):
    monkeypatch.setattr(tasks, "enqueue_task", lambda *_: None)
    tasks.sweep()
    tasks.sweep()

    assert Heartbeat.objects.get().at >= now

    def broken(**_: object) -> None:
        raise RuntimeError

    Heartbeat.objects.update(at=now - timedelta(hours=1))
    monkeypatch.setattr(sweep, "sweep", broken)
    with pytest.raises(RuntimeError):
        tasks.sweep()
    assert Heartbeat.objects.get().at < now


class Taker:
    """A channel that accepts everything."""

    def send(self, _envelope) -> str:
        return "taken"

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def measured(settings, tmp_path, monkeypatch):
    """The metrics of a separate process that Prometheus reads."""
    if "prometheus_client" not in sys.modules:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    settings.METRICS_TOKEN, settings.METRICS_DIR = "of-prometheus", str(tmp_path)


def read_metrics(client) -> dict[str, float]:
    answer = client.get("/metrics", headers={"authorization": "Bearer of-prometheus"})
    assert answer.status_code == 200
    lines = [line for line in answer.content.decode().splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_metrics_have_counts_and_durations(client, measured, monkeypatch, now):
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taker)
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=now)
    MachineClock.record_clock("worker-2", ahead=timedelta(minutes=-10), at=now)
    before = read_metrics(client)

    ongoing.match(message, at=now)
    waiting = read_metrics(client)
    dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(seconds=5))
    done = read_metrics(client)

    for each in ("matched", "waiting"):
        assert waiting[f'outbound_records{{channel="email",what="{each}"}}'] == 1
    for each in ("sent", "failed", "uncertain", "bounced"):
        assert waiting[f'outbound_records{{channel="email",what="{each}"}}'] == 0
    assert waiting["outbound_oldest_due_age_seconds"] >= 0
    assert waiting['outbound_clock_ahead_seconds{machine="worker-2"}'] == -600
    assert abs(waiting[f'outbound_clock_ahead_seconds{{machine="{socket.gethostname()}"}}']) < 1
    assert done['outbound_records{channel="email",what="sent"}'] == 1
    assert done['outbound_records{channel="email",what="waiting"}'] == 0
    matched = f'outbound_match_seconds_count{{message="{message.pk}"}}'
    assert done[matched] == before.get(matched, 0) + 1
    handed = 'outbound_hand_over_seconds_count{channel="taker"}'
    assert done[handed] == before.get(handed, 0) + 1


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "of-prometheus", "Basic of-prometheus", "Bearer é"])
def test_metrics_need_the_token(client, measured, given):
    assert client.get("/metrics", headers={"authorization": given}).status_code == 401


def test_without_a_token_metrics_do_not_exist(client, settings, tmp_path):
    settings.METRICS_TOKEN, settings.METRICS_DIR = "", str(tmp_path)

    metrics.observe_duration("match", 0.0, 1)

    assert client.get("/metrics").status_code == 404
    assert list(tmp_path.iterdir()) == []


def test_metrics_of_a_process_are_deleted_a_day_after_its_end(measured, tmp_path):
    gone, here = tmp_path / "histogram_999999999.db", tmp_path / "histogram_1.db"
    for path in (gone, here):
        path.touch()

    metrics.delete_dead_process_files(now=gone.stat().st_mtime + 3600)
    assert gone.exists()
    metrics.delete_dead_process_files(now=gone.stat().st_mtime + 25 * 3600)
    assert (gone.exists(), here.exists()) == (False, True)


def test_json_log_line_has_the_record_and_no_content(monkeypatch, caplog, now):
    def lost(self, _envelope) -> str:
        raise ConnectionResetError

    monkeypatch.setattr(Taker, "send", lost)
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Taker)
    CustomerFactory(email="ann@x.example", name="Ann Secret")
    message = MessageFactory(live=True, at=now, body=f"<p>{SECRET_BODY}, {{{{ name }}}}</p>")
    ongoing.match(message, at=now)

    with caplog.at_level(logging.DEBUG):
        dispatcher.dispatch(clock=timezone.now, until=timezone.now() + timedelta(seconds=5))

    lines = [json.loads(JsonLines().format(line)) for line in caplog.records]
    (about,) = [line for line in lines if "record" in line]
    assert (about["record"], about["level"], about["logger"]) == (
        message.records.get().pk,
        "warning",
        "delivery.sending.outgoing_copy",
    )
    assert "ConnectionResetError" in about["traceback"]
    assert not any(word in json.dumps(lines) for word in (SECRET_BODY, "Ann Secret"))
