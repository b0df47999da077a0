"""Connection shares: the number of connections is a total for all dispatchers of a channel, on all machines.

Each dispatcher at work holds a share in the database and renews it. A share is the fair part of the total, as far as
the others have given theirs back: a dispatcher that has to shrink first closes connections, and the total is never
exceeded. The share of a dead process ends with its lease. If the server refuses connections, the total is lowered for
all, and raised again one by one. Urgent shares (answer emails) are few connections each and come before all others.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audiences.clock import database_clock
from delivery.models import ChannelConnections, ConnectionShare
from messaging.models import Channel as Name

log = logging.getLogger(__name__)

# How many connections a channel has at most.
CONNECTION_SETTINGS = {Name.EMAIL: "EMAIL_CONNECTIONS", Name.PUSH: "PUSH_CONNECTIONS"}
# Urgent shares have existed since then, so they come first; and how many connections each of them has at most.
URGENT_SINCE, URGENT_CONNECTIONS = datetime(1970, 1, 1, tzinfo=UTC), 4
# For how long a share holds without renewal; and after how long its dispatcher no longer counts as being at work. It
# renews the share each second.
LEASE, AT_WORK_FOR = timedelta(seconds=6), timedelta(seconds=3)
# After a refusal: how much of the connections in use remains, at most once in a while; and when one more is tried.
LOWER_FACTOR, LOWER_INTERVAL, RAISE_INTERVAL = 0.75, timedelta(seconds=1), timedelta(seconds=15)
# How long a request for another dispatcher stands if no worker process is free.
REQUEST_VALID_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Share:
    """How many connections this dispatcher may use, its fair part once the others have given theirs back."""

    connections: int
    fair: int
    # Whether a server answers over a connection of another dispatcher.
    others_are_answered: bool


def connection_limit(name: Name) -> int:
    """Return how many connections all dispatchers together may have, as set."""
    return int(getattr(settings, CONNECTION_SETTINGS[name]))


def renew_share(
    name: Name, *, holder: UUID, in_use: int, is_answered: bool, is_refused: bool, is_urgent: bool = False
) -> Share:
    """Renew the share of a dispatcher, or take one.

    `in_use`: its open connections, which it keeps until they are closed; `is_answered`: whether the server answers over
    one of them; `is_urgent`: whether it comes before the others. If there are more dispatchers than connections, the
    last ones get none.
    """
    with transaction.atomic():
        channel = locked_channel(name)
        now = database_clock()
        channel.shares.filter(until__lt=now).delete()
        shares = list(channel.shares.order_by("since", "pk"))
        others = [share for share in shares if share.holder != holder]
        if is_refused:
            lower_total(channel, in_use=in_use + sum(other.in_use for other in others), now=now)
        elif channel.accepted is not None and channel.changed_at and now - channel.changed_at >= RAISE_INTERVAL:
            channel.accepted, channel.changed_at = channel.accepted + 1, now
        if channel.accepted is not None and channel.accepted >= connection_limit(name):
            channel.accepted = None
        total = connection_limit(name) if channel.accepted is None else channel.accepted
        urgent = [share.holder for share in shares if share.since == URGENT_SINCE]
        usual = [share.holder for share in shares if share.since != URGENT_SINCE]
        joined = urgent if is_urgent else usual
        if holder not in joined:
            joined.append(holder)
        fair = fair_part(total, place=joined.index(holder), is_urgent=is_urgent, urgent=len(urgent), usual=len(usual))
        connections = max(0, min(fair, total - sum(other.connections for other in others)))
        facts = {"connections": max(connections, in_use), "in_use": in_use, "is_answered": is_answered}
        if not ConnectionShare.objects.filter(pk=holder).update(until=now + LEASE, **facts):
            since = URGENT_SINCE if is_urgent else now
            ConnectionShare.objects.create(holder=holder, channel=channel, since=since, until=now + LEASE, **facts)
            if not is_urgent:
                # If it was asked for, it has begun.
                channel.asked_at = None
        channel.save()
    return Share(connections, fair, any(other.is_answered for other in others))


def fair_part(total: int, *, place: int, is_urgent: bool, urgent: int, usual: int) -> int:
    """Return the connections of the dispatcher at this place among the urgent ones, or among the usual ones."""
    most = max(1, min(URGENT_CONNECTIONS, total // (urgent + usual)))
    if is_urgent:
        return most if place < total else 0
    rest = max(0, total - urgent * most)
    return rest // usual + (place < rest % usual)


def lower_total(channel: ChannelConnections, *, in_use: int, now: datetime) -> None:
    """Use a quarter less than now, as the server refused a connection."""
    if channel.changed_at is not None and now - channel.changed_at < LOWER_INTERVAL:
        return
    channel.accepted, channel.changed_at = max(1, int(in_use * LOWER_FACTOR)), now
    log.warning("%s: the server refuses connections beyond %s, so %s are used", channel.pk, in_use, channel.accepted)


def give_back(name: Name, *, holder: UUID) -> None:
    """Give back a share whose connections are closed."""
    ConnectionShare.objects.filter(pk=holder, channel=name).delete()


def may_ask_for_another(name: Name) -> bool:
    """Return whether one more dispatcher should be asked for, and record that it was.

    One request stands at a time: it ends when a dispatcher takes its share, or after a while. So there are never more
    dispatchers than worker processes, and while all of them are busy, one task more waits in the queue for each minute.
    """
    with transaction.atomic():
        channel = locked_channel(name)
        now = database_clock()
        stands = channel.asked_at is not None and now - channel.asked_at < REQUEST_VALID_FOR
        total = connection_limit(name) if channel.accepted is None else channel.accepted
        if stands or channel.shares.filter(until__gte=now).count() >= total:
            return False
        channel.asked_at = now
        channel.save(update_fields=["asked_at"])
    return True


def channels_at_work(*, is_urgent: bool = False) -> set[str]:
    """Return the channels with a dispatcher that renewed its share lately: campaigns', or those of answer emails."""
    at_work = ConnectionShare.objects.filter(until__gt=database_clock() + LEASE - AT_WORK_FOR)
    at_work = at_work.filter(since=URGENT_SINCE) if is_urgent else at_work.exclude(since=URGENT_SINCE)
    return set(at_work.values_list("channel", flat=True))


def locked_channel(name: Name) -> ChannelConnections:
    """Return the row of a channel, locked until the transaction ends."""
    ChannelConnections.objects.bulk_create([ChannelConnections(channel=name)], ignore_conflicts=True)
    return ChannelConnections.objects.select_for_update().get(pk=name)
