"""A worker whose broker has damaged files goes on, and a message is still sent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config.supervisor import Running
from delivery.matching import launch
from tests.factories import CustomerFactory, MessageFactory
from tests.support.mail_catcher import Catcher
from tests.trials.conftest import eventually

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

WORKER = ("worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")


def damage(folder: Path, number: int) -> None:
    """Put files that are not messages into the folder, with names before and after all others."""
    for first in ("0", "9"):
        (folder / f"{first}_empty{number}.celery.msg").touch()
        (folder / f"{first}_part{number}.celery.msg").write_text('{"body": "W1tdLCB7fS')
        (folder / f"{first}_other{number}.celery.msg").write_text("[1, 2]")
        (folder / f"{first}_folder{number}.celery.msg").mkdir()


def test_worker_survives_damaged_files(at, environment, nudge, catcher: Catcher, celery: Callable[..., Running]):
    folder = Path(environment["BROKER_DIR"])
    folder.mkdir(exist_ok=True)
    damage(folder, 1)
    worker = celery(*WORKER)
    eventually(lambda: not list(folder.glob("*1.celery.msg")), within=90, while_running=(worker,))

    damage(folder, 2)
    CustomerFactory(email="ann@x.example")
    launch.launch(MessageFactory(one_off=True), at=at)
    nudge()

    eventually(lambda: catcher.caught, within=90, while_running=(worker,))
    eventually(lambda: not list(folder.glob("*2.celery.msg")), within=30, while_running=(worker,))
    assert [mail.recipient for mail in catcher.caught] == ["ann@x.example"]
    assert len(list((folder / "damaged").iterdir())) == 16
    assert worker.log.read_text().count("is damaged") == 16
