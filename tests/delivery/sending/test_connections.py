"""Shares of connections: one total per channel, whatever the number of dispatchers and machines."""

from datetime import timedelta
from uuid import uuid4

import pytest

from config import settings as configured
from delivery.models import ChannelConnections, ConnectionShare
from delivery.sending import connections
from delivery.sending.connections import LEASE, LOWER_INTERVAL, RAISE_INTERVAL
from messaging.models import Channel

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ten(settings) -> None:
    settings.EMAIL_CONNECTIONS = 10


@pytest.fixture
def now(monkeypatch, at) -> list:
    """The database's clock, which the test moves on."""
    moment = [at]
    monkeypatch.setattr(connections, "database_clock", lambda: moment[0])
    return moment


def renew_share(
    holder, *, in_use: int = 0, is_answered: bool = False, is_refused: bool = False, is_urgent: bool = False
) -> connections.Share:
    facts = {"is_answered": is_answered, "is_refused": is_refused, "is_urgent": is_urgent}
    return connections.renew_share(Channel.EMAIL, holder=holder, in_use=in_use, **facts)


def renew(holder, *, in_use: int = 0, is_refused: bool = False) -> int:
    return renew_share(holder, in_use=in_use, is_refused=is_refused).connections


def test_one_dispatcher_has_all_connections():
    assert renew(uuid4()) == 10


def test_second_dispatcher_gets_its_half_once_the_first_has_closed_connections():
    first, second = uuid4(), uuid4()
    renew(first)

    assert renew(second) == 0
    # It has to shrink, and has ten open.
    assert renew(first, in_use=10) == 5
    assert renew(second) == 0
    assert renew(first, in_use=7) == 5
    assert renew(second) == 3
    assert renew(first, in_use=5) == 5
    assert renew(second, in_use=3) == 5
    assert sum(ConnectionShare.objects.values_list("connections", flat=True)) == 10


def test_total_is_never_exceeded_and_is_used_in_full_by_three():
    holders = [uuid4() for _ in range(3)]
    shares = dict.fromkeys(holders, 0)
    for _ in range(5):
        for holder in holders:
            shares[holder] = renew(holder, in_use=min(shares[holder], renew(holder, in_use=shares[holder])))
            assert sum(ConnectionShare.objects.values_list("connections", flat=True)) <= 10

    assert sorted(shares.values()) == [3, 3, 4]


def test_share_that_is_given_back_is_free_at_once_and_that_of_a_dead_process_after_its_lease(now):
    first, second, third = uuid4(), uuid4(), uuid4()
    renew(first)
    connections.give_back(Channel.EMAIL, holder=first)
    assert renew(second) == 10

    now[0] += LEASE
    assert renew(third) == 0
    now[0] += timedelta(seconds=1)
    renew(third)
    assert ConnectionShare.objects.get(pk=third).connections == 10


def test_refusal_lowers_the_total_for_all_once_a_second_and_it_is_raised_again_one_by_one(now):
    first, second = uuid4(), uuid4()
    for _ in range(2):
        for holder in (first, second):
            renew(holder, in_use=4)

    renew(first, in_use=4, is_refused=True)
    renew(second, in_use=4, is_refused=True)
    assert ChannelConnections.objects.get().accepted == 6
    now[0] += LOWER_INTERVAL
    renew(second, in_use=3, is_refused=True)
    assert ChannelConnections.objects.get().accepted == 5

    for raised in (6, 7, 8, 9, None):
        now[0] += RAISE_INTERVAL
        for holder in (first, second):
            renew(holder, in_use=2)
        assert ChannelConnections.objects.get().accepted == raised


def test_more_dispatchers_than_connections_leave_the_later_ones_without(settings, now):
    settings.EMAIL_CONNECTIONS = 1
    # In an order in which their keys do not rise.
    first, second, third = sorted([uuid4() for _ in range(3)], reverse=True)
    for holder in (first, second, third):
        now[0] += timedelta(seconds=1)
        renew(holder)

    assert renew_share(third).fair == 0
    assert renew_share(second).fair == 0
    assert renew_share(first, in_use=1).fair == 1


@pytest.mark.parametrize(
    ("total", "urgent", "fair"),
    [
        (20, 1, [4, 8, 8]),
        (10, 1, [3, 4, 3]),
        (10, 3, [2, 2, 2, 2, 2]),
        (2, 1, [1, 1, 0]),
        (1, 1, [1, 0, 0]),
        (1, 2, [1, 0, 0, 0]),
        (10, 0, [5, 5]),
    ],
)
def test_urgent_dispatchers_get_a_few_connections_before_all_others(settings, now, total, urgent, fair):
    settings.EMAIL_CONNECTIONS = total
    usual, first = [uuid4(), uuid4()], [uuid4() for _ in range(urgent)]
    for holder in usual:
        now[0] += timedelta(seconds=1)
        renew_share(holder)
    for holder in first:
        renew_share(holder, is_urgent=True)

    in_order = sorted(first) + usual
    assert [renew_share(holder, is_urgent=holder in first).fair for holder in in_order] == fair


def test_urgent_dispatcher_is_not_the_one_that_was_asked_for():
    renew(uuid4())
    assert connections.may_ask_for_another(Channel.EMAIL)
    renew_share(uuid4(), is_urgent=True)

    assert not connections.may_ask_for_another(Channel.EMAIL)


def test_dispatcher_learns_whether_the_server_answers_others():
    first, second = uuid4(), uuid4()
    renew_share(first, in_use=1)
    assert not renew_share(second).others_are_answered
    renew_share(first, in_use=1, is_answered=True)

    assert renew_share(second).others_are_answered
    assert not renew_share(first, in_use=1).others_are_answered


def test_one_request_for_another_dispatcher_stands_until_one_begins(now):
    holder = uuid4()
    renew(holder)

    assert connections.may_ask_for_another(Channel.EMAIL)
    assert not connections.may_ask_for_another(Channel.EMAIL)
    renew(holder)
    assert not connections.may_ask_for_another(Channel.EMAIL)
    renew(uuid4())
    assert connections.may_ask_for_another(Channel.EMAIL)
    now[0] += connections.REQUEST_VALID_FOR
    assert connections.may_ask_for_another(Channel.EMAIL)


def test_nobody_is_asked_if_there_is_a_dispatcher_for_each_connection(settings):
    settings.EMAIL_CONNECTIONS = 2
    for _ in range(2):
        renew(uuid4())

    assert not connections.may_ask_for_another(Channel.EMAIL)


def test_every_channel_that_sends_has_a_number_of_connections():
    from delivery.channels import CHANNELS

    assert set(connections.CONNECTION_SETTINGS) == set(CHANNELS)
    assert all(getattr(configured, name) == 20 for name in connections.CONNECTION_SETTINGS.values())
