"""Servers that take copies, refuse some, and lose the connection for others after they took them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from delivery.channels import Envelope, NoSuchMailbox, Rejected, Unavailable
from delivery.channels.base import Answers
from tests.simulation.processes import Process, current_actor
from tests.simulation.scheduler import Scheduler

# How long a server takes for a copy. A pause waits up to 10 seconds for it.
SECONDS = (0.0, 0.4, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class HandOver:
    """A copy that began: its record, its addresses, by which process, and when."""

    record: int
    to: tuple[str, ...]
    process: Process
    seconds: float


@dataclass
class Servers:
    """The mail server and the push provider, and what they have received."""

    scheduler: Scheduler
    random: Random
    on_begin: Callable[[HandOver], None]
    on_accept: Callable[[int], None]
    begun: list[HandOver] = field(default_factory=list)
    in_flight: list[HandOver] = field(default_factory=list)
    accepted: Counter[int] = field(default_factory=Counter)
    # By record and device token.
    accepted_devices: Counter[tuple[int, str]] = field(default_factory=Counter)
    # Whether they take every copy, as they do once the faults have ended.
    is_healthy: bool = False

    def mood(self) -> float:
        """Return a number that decides about a copy: the smaller, the worse."""
        return 1.0 if self.is_healthy else self.random.random()

    def take_time(self) -> None:
        """Let a server take its time, so that much happens while a copy is on its way."""
        seconds = 0.0 if self.is_healthy else self.random.choice(SECONDS)
        self.scheduler.wait(lambda: False, timeout=seconds, gate="hand over")

    def begin(self, envelope: Envelope) -> HandOver:
        actor = current_actor()
        assert actor is not None
        record = int(envelope.message_id[1:].split(".")[0])
        copy = HandOver(record, envelope.to, actor.process, self.scheduler.seconds)
        self.begun.append(copy)
        self.in_flight.append(copy)
        self.on_begin(copy)
        return copy

    def open_email(self) -> "MailServer":
        return MailServer(self)

    def open_push(self) -> "PushServer":
        return PushServer(self)


@dataclass
class MailServer:
    """A connection to the mail server."""

    servers: Servers

    def send(self, envelope: Envelope) -> str:
        servers = self.servers
        copy = servers.begin(envelope)
        mood = servers.mood()
        try:
            servers.take_time()
            if mood < 0.04:
                raise Unavailable("451 later")
            if mood < 0.06:
                raise Rejected("550 spam")
            if mood < 0.08:
                raise NoSuchMailbox("550 5.1.1 unknown")
            servers.accepted[copy.record] += 1
            servers.on_accept(copy.record)
            servers.scheduler.stop_at("answer")
            if mood < 0.16:
                # It accepts and never answers.
                servers.scheduler.sleep(servers.random.choice((0.1, 0.5, 2.0)))
                raise TimeoutError("no answer")
        finally:
            servers.in_flight.remove(copy)
        return f"<{copy.record}@mx>"

    def close(self) -> None:
        """Do nothing."""


@dataclass
class PushServer:
    """A session with a push provider."""

    servers: Servers

    def send(self, envelope: Envelope) -> str:
        raise NotImplementedError

    def send_to_each(self, envelope: Envelope) -> Answers:
        servers = self.servers
        copy = servers.begin(envelope)
        answers: dict[str, Any] = {}
        try:
            for token in envelope.to:
                servers.take_time()
                mood = servers.mood()
                if mood < 0.3:
                    answers[token] = Unavailable("503")
                    continue
                servers.accepted_devices[copy.record, token] += 1
                servers.on_accept(copy.record)
                if mood < 0.35:
                    answers[token] = TimeoutError("no answer")
                else:
                    answers[token] = f"{copy.record}-{token}"
            servers.scheduler.stop_at("answer")
        finally:
            servers.in_flight.remove(copy)
        return answers

    def close(self) -> None:
        """Do nothing."""
