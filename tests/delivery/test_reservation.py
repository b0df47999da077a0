"""Reservation: in a worker for all queues one process stays free for sending, and tasks take turns for the others."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import signals

from config.celery import QUEUES, app
from delivery import process, reservation, tasks

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def no_reservation_is_left() -> Iterator[None]:
    yield
    process.reset()


def hold_a_place() -> int:
    """Fork a process that holds a place until it is killed, and return its id."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with reservation.hold_place() as is_free:
            os.write(writing, b"1" if is_free else b"0")
            time.sleep(60)
        os._exit(0)
    assert os.read(reading, 1) == b"1"
    return pid


def end_process(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_place_free() -> bool:
    with reservation.hold_place() as is_free:
        return is_free


def test_outside_a_worker_every_task_has_a_place():
    assert is_place_free()


def test_one_process_of_the_worker_stays_free_for_sending():
    reservation.reserve(3)
    holders = [hold_a_place() for _ in range(2)]

    assert not is_place_free()
    end_process(holders.pop())
    assert is_place_free()
    end_process(holders.pop())


def test_task_without_a_place_is_queued_again_once(monkeypatch):
    reservation.reserve(2)
    queued = []
    monkeypatch.setattr(tasks.match_message, "apply_async", lambda *args, **options: queued.append((args, options)))
    holder = hold_a_place()

    tasks.match_message(7)
    tasks.match_message(7)
    tasks.match_message(7, asks_again=True)

    assert len(queued) == 2
    assert queued[0][0] == ((7,),)
    assert (queued[0][1]["kwargs"], queued[0][1]["countdown"]) == ({"asks_again": True}, reservation.ASK_INTERVAL)
    end_process(holder)


def test_holder_gives_way_within_a_second_if_a_task_waits(monkeypatch):
    reservation.reserve(2)
    now = 1000.0
    monkeypatch.setattr(reservation.time, "monotonic", lambda: now)
    turn = reservation.Turn(MINUTE, is_sending_due=lambda: False)

    assert turn.may_continue()
    now += 1.1
    assert turn.may_continue()
    reservation.mark_waiting("a task", asks_again=False)
    assert turn.may_continue()
    now += 1.1
    assert not turn.may_continue()
    assert (turn.gave_way, turn.away_for) == (True, reservation.AWAY_PERIOD)


def test_task_that_found_a_place_does_not_give_way_to_itself(monkeypatch):
    reservation.reserve(2)
    monkeypatch.setattr(tasks, "enqueue_task", lambda *_args, **_facts: None)
    monkeypatch.setattr(tasks, "match_and_dispatch", lambda _key: None)
    holder = hold_a_place()
    tasks.match_message(7)
    assert reservation.is_any_waiting()

    end_process(holder)
    tasks.match_message(7, asks_again=True)

    assert not reservation.is_any_waiting()


def test_turn_ends_with_its_time(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(reservation.time, "monotonic", lambda: now)
    turn = reservation.Turn(MINUTE, is_sending_due=lambda: False)
    now += 61

    assert not turn.may_continue()
    assert (turn.gave_way, turn.away_for) == (False, 0)


def test_only_process_of_a_worker_gives_way_if_records_are_due(monkeypatch):
    reservation.reserve(1)
    now = 1000.0
    monkeypatch.setattr(reservation.time, "monotonic", lambda: now)
    due = False
    turn = reservation.Turn(MINUTE, is_sending_due=lambda: due)

    assert is_place_free()
    now += 1.1
    assert turn.may_continue()
    due = True
    now += 1.1
    assert not turn.may_continue()


def test_every_task_has_a_queue_and_workers_serve_them_all_and_the_old_one():
    own = {name for name in app.tasks if name.startswith("delivery.")}

    assert own == set(app.conf.task_routes)
    assert {queue.name for queue in app.conf.task_queues} == {*QUEUES, "celery"}


@pytest.mark.parametrize(
    ("queues", "places"),
    [(["sending", "matching", "bulk", "webhooks", "celery"], 3), (["bulk"], None), (["sending", "celery"], None)],
)
def test_only_a_worker_for_all_queues_keeps_a_process_free(queues, places):
    consumed = SimpleNamespace(queues=SimpleNamespace(consume_from=dict.fromkeys(queues)))
    worker = SimpleNamespace(app=SimpleNamespace(amqp=consumed), concurrency=4)

    signals.celeryd_after_setup.send(sender="worker", instance=worker, conf=None)

    assert (process.place_count if process.places else None) == places


def test_tasks_other_than_sending_and_the_sweep_need_a_place(monkeypatch):
    reservation.reserve(2)
    waiting = []
    takes_key = {"match_message", "launch_message", "go_on_importing", "change_kind"}
    monkeypatch.setattr(reservation, "mark_waiting", lambda task, **_facts: waiting.append(task.split()[0]))
    holder = hold_a_place()

    for name, route in app.conf.task_routes.items():
        if route["queue"] != "sending" and name != "delivery.tasks.sweep":
            app.tasks[name](*([1] if name.rpartition(".")[2] in takes_key else []))

    assert len(waiting) == len(app.conf.task_routes) - 4
    end_process(holder)


def test_tasks_whose_marks_are_at_one_position_are_no_copies_of_each_other():
    reservation.reserve(2)
    first = "delivery.tasks.match_message (1,)"
    position, _ = reservation.mark_position(first)
    names = (f"delivery.tasks.match_message ({number},)" for number in itertools.count(2))
    second = next(name for name in names if reservation.mark_position(name)[0] == position)

    assert reservation.mark_waiting(first, asks_again=False)
    assert not reservation.mark_waiting(first, asks_again=False)
    assert reservation.mark_waiting(second, asks_again=False)
    reservation.clear_mark(first)
    assert reservation.is_any_waiting()
    reservation.clear_mark(second)
    assert not reservation.is_any_waiting()
