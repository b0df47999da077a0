"""`manage.py match` and `manage.py send`, run as commands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from delivery.matching import lifecycle
from tests.factories import CustomerFactory, MessageFactory
from tests.support.mail_catcher import Catcher

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PROJECT = Path(__file__).resolve().parents[2]
Manage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def manage(environment) -> Manage:
    """Run `manage.py` with these arguments, and return its output."""

    def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(  # noqa: S603
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return manage


def test_round_by_hand_matches_and_shows_progress(at, manage: Manage, catcher: Catcher):
    for number in range(30):
        CustomerFactory(email=f"{number}@x.example")
    message = MessageFactory(live=True, at=at)
    MessageFactory(in_app=True, live=True, at=at)

    match = manage("match")
    assert (match.returncode, match.stdout.strip()) == (0, "30 records added or requeued, 1 messages")
    assert "Matching" in match.stderr
    assert "30 records" in match.stderr
    send = manage("send")

    assert (send.returncode, send.stdout.strip()) == (0, "30 sent or settled, 0 still due")
    assert "Sending: 100%" in send.stderr
    assert len({mail.recipient for mail in catcher.caught}) == len(catcher.caught) == 30
    assert message.records.counts()["sent"] == 30
    assert manage("match", str(message.pk)).stdout.startswith("0 records added or requeued")


def test_round_by_hand_prints_the_reason_of_a_refusal(at, manage: Manage):
    CustomerFactory(email="ann@x.example")
    paused = MessageFactory(title="Held", live=True, at=at)
    lifecycle.pause(paused)
    one_off = MessageFactory(title="Once", one_off=True, live=True, at=at)
    refusals = {
        ("match", "999999"): "There is no message 999999.",
        ("match", "9" * 30): "There is no message 999999999999999999999999999999.",
        ("match", "-1"): "There is no message -1.",
        ("match", str(one_off.pk)): "“Once” is not an ongoing email or push; only those are matched by rounds.",
        ("match", str(paused.pk)): "“Held” is not live but paused.",
        ("match", "all"): "argument message: invalid int value: 'all'",
        **{
            ("send", f"--minutes={wrong}"): f"{wrong} is not a number of minutes between 0 and 1440."
            for wrong in ("soon", "-1", "0", "nan", "inf", "1e300")
        },
    }
    for (command, *arguments), words in refusals.items():
        with pytest.raises(CommandError) as refused:
            call_command(command, *arguments)
        assert words in str(refused.value)

    by_process = manage("match", str(paused.pk))
    assert (by_process.returncode, by_process.stderr) == (1, "CommandError: “Held” is not live but paused.\n")
