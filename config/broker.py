"""The embedded broker: a Celery transport that keeps each message in a file of one folder.

kombu has such a transport, but its readers see files that are still being written, and end the worker at the first file
they cannot read. Here a message is complete before it has its name, and a file that is not a message is moved to the
folder `damaged` and logged. Dropping it is safe: records in PostgreSQL are the queue, messages only make it fast.
"""

import contextlib
import errno
import logging
import os
import secrets
import time
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)

# These are not the file's fault: it is read later.
OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
MESSAGE_SIZE_LIMIT = 1024 * 1024
# A name may have 255 bytes; damaged files get 9 more.
KEPT_NAME_LENGTH = 200
# How often a folder that cannot be read is logged, in seconds.
FOLDER_LOG_INTERVAL = 60.0


class Channel(virtual.Channel):
    """Write messages to files and read them, the oldest first."""

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        self.folder = Path(connection.client.transport_options["folder"])
        # Names listed but not yet opened, so that a long queue is not listed again for each message.
        self.listed: dict[str, deque[str]] = {}
        # Damaged files that cannot be moved either: logged once.
        self.immovable: set[str] = set()
        self.folder_logged_at = -FOLDER_LOG_INTERVAL

    def _put(self, queue: str, message: dict[str, Any], **_options: Any) -> None:
        """Write a message under a temporary name and rename it, so that no reader sees a part of it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020}_{secrets.token_hex(8)}.{queue}.msg"
        unfinished = self.folder / f"{name}.part"
        try:
            unfinished.write_bytes(dumps(message).encode())
            unfinished.rename(self.folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        """Return the oldest message and delete its file; raise Empty if there is none."""
        listed = self.listed.setdefault(queue, deque())
        if not listed:
            listed.extend(self.names(queue))
        while listed:
            if message := self.take_message(listed.popleft()):
                return message
        raise Empty

    def names(self, queue: str) -> list[str]:
        """List the queue's files, the oldest first."""
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - 50,000 of them: no Path for each
        except FileNotFoundError:
            return []
        except OSError as error:
            if time.monotonic() - self.folder_logged_at >= FOLDER_LOG_INTERVAL:
                self.folder_logged_at = time.monotonic()
                log.warning("The broker's folder cannot be read: %s", error)
            return []
        return sorted(name for name in names if name.partition(".")[2] == f"{queue}.msg" and name not in self.immovable)

    def take_message(self, name: str) -> dict[str, Any] | None:
        """Return the file's message. None if another worker was first, or if the file is damaged."""
        path = self.folder / name
        try:
            message = self.parse(read_regular_file(path))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - logged below; no error of a file may end the worker
            if not (isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES):
                self.move_aside(path, error)
            return None
        try:
            # Of several workers that read it, the one that deletes it has it.
            path.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.move_aside(path, error)
            return None
        return message

    def parse(self, content: bytes) -> dict[str, Any]:
        """Return the message, if kombu and Celery will be able to read all of it; raise if not."""
        raw: dict[str, Any] = loads(content)
        message = self.Message(raw, channel=self)
        if message.content_type != "application/json":
            raise ValueError(f"its content type is {message.content_type!r}")
        body = message.decode()
        if not isinstance(raw["headers"], dict) or not isinstance(message.delivery_info, dict):
            raise TypeError("its headers are not those of a message")
        if "task" in message.headers:
            arguments, keywords, _embedded = body
            if not isinstance(arguments, list) or not isinstance(keywords, dict):
                raise TypeError("its body is not a task's")
        return raw

    def move_aside(self, path: Path, error: Exception) -> None:
        """Move a damaged file out of the queue, and log why."""
        damaged = self.folder / "damaged"
        try:
            damaged.mkdir(mode=0o700, exist_ok=True)
            path.rename(damaged / f"{path.name[:KEPT_NAME_LENGTH]}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            return
        except OSError as refused:
            self.immovable.add(path.name)
            log.warning("The broker's file %s is damaged (%r) and cannot be moved: %s", path.name, error, refused)
        else:
            log.warning("The broker's file %s is damaged (%r); it was moved to %s", path.name, error, damaged)

    def _size(self, queue: str) -> int:
        return len(self.names(queue))

    def _purge(self, queue: str) -> int:
        """Delete the queue's messages; return how many there were."""
        count = 0
        for name in self.names(queue):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
                count += 1
        return count


class Transport(virtual.Transport):
    """The transport behind `files://`. Its option `folder` names the folder. Without fanout: no `celery inspect`."""

    Channel = Channel
    default_port = 0
    driver_type = driver_name = "files"

    def driver_version(self) -> str:
        """Return the version that kombu asks for; there is no driver."""
        return "N/A"


def read_regular_file(path: Path) -> bytes:
    """Return the content. Never block on a pipe with that name or follow a link to an endless file."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)

    with open(path, "rb", opener=opener) as file:
        content = file.read(MESSAGE_SIZE_LIMIT + 1) or b""
    if len(content) > MESSAGE_SIZE_LIMIT:
        raise ValueError("it is too large for a message")
    return content
