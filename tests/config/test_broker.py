"""The embedded broker: only complete messages, each once; no file in its folder ends a worker."""

import base64
import errno
import json
import os
import threading
import time
from pathlib import Path
from queue import Empty

import pytest
from django.conf import settings
from kombu import Connection, Queue

from config import broker
from config.celery import app
from delivery import tasks


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def connection(folder):
    with connect(folder) as connection:
        yield connection


def connect(folder: Path) -> Connection:
    return Connection("files://", transport_options={"folder": str(folder)})


def publish(connection: Connection, *numbers: int) -> None:
    for number in numbers:
        tasks.match_message.apply_async([number], connection=connection)


def read_numbers(connection: Connection) -> list[int]:
    """Receive every message; return the numbers with which they were published."""
    channel = connection.default_channel
    found = []
    while True:
        try:
            message = channel.Message(channel._get("matching"), channel=channel)
        except Empty:
            return found
        found.append(message.decode()[0][0])


def a_message(connection: Connection, folder: Path) -> dict:
    """Return the content of a message as it is stored, and leave the queue empty."""
    publish(connection, 0)
    (path,) = folder.glob("*.msg")
    content = json.loads(path.read_bytes())
    path.unlink()
    return content


def changed(message: dict, **changes: object) -> bytes:
    return json.dumps({**message, **changes}).encode()


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


DAMAGED = {
    "empty": lambda _: b"",
    "cut off": lambda message: json.dumps(message).encode()[:100],
    "all but its end": lambda message: json.dumps(message).encode()[:-1],
    "not text": lambda _: b"\xff\xfe\x00",
    "zeros": lambda _: bytes(4096),
    "nothing": lambda _: b"null",
    "a list": lambda _: b"[1, 2]",
    "nested without end": lambda _: b"[" * 100_000,
    "another's object": lambda _: b'{"hello": "world"}',
    "without a body": lambda message: json.dumps({k: v for k, v in message.items() if k != "body"}).encode(),
    "without headers": lambda message: changed(message, headers=None),
    "without properties": lambda message: changed(message, properties={}),
    "with a body that is not base64": lambda message: changed(message, body="%"),
    "with a body that is not JSON": lambda message: changed(message, body=base64.b64encode(b"{").decode()),
    "with a body that is not a task's": lambda message: changed(message, body=encoded({"a": 1, "b": 2, "c": 3})),
    "with another kind of body": lambda message: changed(message, **{"content-type": "application/x-python-serialize"}),
    "too large": lambda message: changed(message, padding="x" * broker.MESSAGE_SIZE_LIMIT),
}


def test_embedded_setup_uses_it():
    assert settings.CELERY_BROKER_URL == "files://"
    assert isinstance(app.connection_for_write().transport, broker.Transport)


def test_messages_come_once_in_their_order(connection, folder):
    publish(connection, *range(30))

    with connect(folder) as another:
        assert read_numbers(another) == list(range(30))
    assert read_numbers(connection) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_moved_aside_and_logged(connection, folder, caplog, content):
    (folder / "9_x.matching.msg").write_bytes(content(a_message(connection, folder)))
    publish(connection, 1)

    assert read_numbers(connection) == [1]
    assert [path.name[:16] for path in (folder / "damaged").iterdir()] == ["9_x.matching.msg"]
    assert "9_x.matching.msg is damaged" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken link", "link"])
def test_name_that_is_not_a_file_is_moved_aside(connection, folder, caplog, kind):
    publish(connection, 1)
    path = folder / ("9_" + "x" * 200 + ".matching.msg")
    if kind == "folder":
        path.mkdir()
        (path / "inside").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(folder / "nowhere" if kind == "broken link" else "/dev/zero")

    assert read_numbers(connection) == [1]
    assert not path.is_symlink()
    assert not path.exists()
    assert "is damaged" in caplog.text


def test_file_without_permission_is_moved_aside(connection, folder, caplog, monkeypatch):
    publish(connection, 1)
    path = folder / "9_x.matching.msg"
    path.touch(mode=0o000)
    if os.getuid() == 0:  # Root can read everything.
        usual = broker.read_regular_file
        monkeypatch.setattr(broker, "read_regular_file", lambda asked: denied() if asked == path else usual(asked))

    assert read_numbers(connection) == [1]
    assert not path.exists()
    assert "PermissionError" in caplog.text


def test_file_that_cannot_be_opened_for_want_of_descriptors_is_read_later(connection, folder, monkeypatch, caplog):
    publish(connection, 1)

    with monkeypatch.context() as patch:
        patch.setattr(broker, "read_regular_file", lambda _: too_many())
        assert read_numbers(connection) == []

    assert read_numbers(connection) == [1]
    assert not caplog.records


def too_many() -> bytes:
    raise OSError(errno.EMFILE, "Too many open files")


def denied() -> bytes:
    raise PermissionError(13, "Permission denied")


def test_file_that_vanishes_is_passed_over(connection, folder, caplog):
    publish(connection, 1, 2, 3)
    listed = connection.default_channel.names("matching")
    connection.default_channel.listed["matching"] = broker.deque(listed)
    (folder / listed[1]).unlink()

    assert read_numbers(connection) == [1, 3]
    assert not caplog.records


def test_damaged_file_that_cannot_be_moved_is_logged_once(connection, folder, caplog):
    publish(connection, 1)
    (folder / "damaged").touch()
    (folder / "9_x.matching.msg").touch()

    assert read_numbers(connection) == [1]
    assert read_numbers(connection) == []
    assert caplog.text.count("cannot be moved") == 1


def test_folder_that_is_removed_is_made_again(connection, folder):
    publish(connection, 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    assert read_numbers(connection) == []
    publish(connection, 2)
    assert read_numbers(connection) == [2]


def test_unreadable_folder_is_logged_once_and_ends_no_worker(connection, folder, caplog):
    publish(connection, 1)
    folder.rename(folder.with_suffix(".away"))
    folder.touch()

    assert [read_numbers(connection) for _ in range(3)] == [[], [], []]
    assert caplog.text.count("folder cannot be read") == 1
    folder.unlink()
    folder.with_suffix(".away").rename(folder)
    assert read_numbers(connection) == [1]


def test_message_that_cannot_be_written_leaves_nothing(connection, folder, monkeypatch):
    publish(connection, 1)
    assert read_numbers(connection) == [1]
    monkeypatch.setattr(Path, "rename", lambda *_: denied())

    with pytest.raises(PermissionError):
        publish(connection, 2)

    assert list(folder.iterdir()) == []


def test_many_writers_and_readers_lose_nothing_and_take_nothing_twice(folder, caplog):
    each, taken, stop = 250, [], threading.Event()

    def write(first: int) -> None:
        with connect(folder) as connection:
            publish(connection, *range(first, first + each))

    def take_messages() -> None:
        with connect(folder) as connection:
            while not stop.is_set():
                taken.extend(read_numbers(connection))

    readers = [threading.Thread(target=take_messages) for _ in range(3)]
    writers = [threading.Thread(target=write, args=(number * each,)) for number in range(4)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    deadline = time.monotonic() + 20
    while len(taken) < 4 * each and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in readers:
        thread.join()

    assert sorted(taken) == list(range(4 * each))
    assert not caplog.records


def test_queue_is_counted_and_emptied(connection):
    queue = Queue("matching")(connection.default_channel)
    publish(connection, 1, 2, 3)

    assert queue.queue_declare().message_count == 3
    assert queue.purge() == 3
    assert read_numbers(connection) == []
