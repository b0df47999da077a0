"""Without a broker nothing fails and no caller waits: the nudge logs a warning and the sweep sends later."""

import socket
import time
from collections.abc import Iterator

import pytest
from celery import current_app

from config.celery import app
from delivery import process, tasks
from delivery.matching import launch
from tests.factories import CustomerFactory, MessageFactory
from tests.support.mail_catcher import Catcher

LONGEST = 3.0


@pytest.fixture(params=["redis", "amqp", "files"])
def broker_down(request, monkeypatch, tmp_path) -> Iterator[None]:
    """Make the broker unreachable."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # The port is taken and not listened on.
        place = f"127.0.0.1:{deaf.getsockname()[1]}"
        url = f"{request.param}://{place}//"
        if request.param == "files":
            (tmp_path / "file").touch()
            place = url = "files://"
            options = app.conf.broker_transport_options | {"folder": str(tmp_path / "file" / "no" / "folder")}
            monkeypatch.setitem(app.conf.changes, "broker_transport_options", options)
        for setting in ("broker_url", "broker_read_url", "broker_write_url"):
            monkeypatch.setitem(app.conf.changes, setting, url)
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)
        monkeypatch.setattr(process, "broker_retry_at", 0.0)
        assert current_app.connection_for_write().as_uri().count(place) == 1
        yield


def took(nudges: int) -> float:
    began = time.monotonic()
    for _ in range(nudges):
        tasks.enqueue_dispatch()
    return time.monotonic() - began


def test_nudge_without_a_broker_returns_soon_and_logs_a_warning(broker_down, caplog):
    assert took(1) < LONGEST
    assert "the broker cannot be reached" in caplog.text


def test_many_nudges_wait_for_it_once(broker_down, caplog):
    assert took(100) < LONGEST
    assert caplog.text.count("the broker cannot be reached") == 1


def test_broker_that_is_back_is_used_again(broker_down, monkeypatch, caplog):
    tasks.enqueue_dispatch()
    queued = []
    monkeypatch.setattr(tasks.hand_over_due, "apply_async", lambda *_, **__: queued.append(1))
    monkeypatch.setattr(tasks, "BROKER_RETRY_INTERVAL", 0.0)
    monkeypatch.setattr(process, "broker_retry_at", time.monotonic())

    tasks.enqueue_dispatch()

    assert queued == [1]


@pytest.mark.django_db(transaction=True)
def test_launch_fails_for_no_broker_and_the_sweep_sends(broker_down, migrated, catcher: Catcher, settings, at):
    settings.EMAIL_BACKEND = "delivery.channels.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", catcher.port
    CustomerFactory(email="ann@x.example")
    ongoing, one_off = MessageFactory(subject="Ongoing"), MessageFactory(subject="One-off", one_off=True)
    for message in (ongoing, one_off):
        launch.launch(message, at=at)
        tasks.enqueue_match(message)
        tasks.enqueue_dispatch()
    assert catcher.caught == []

    tasks.sweep()
    tasks.hand_over_due()

    assert sorted(mail.subject for mail in catcher.caught) == ["One-off", "Ongoing"]
