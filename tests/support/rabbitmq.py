"""RabbitMQ of Debian's package, with a user of its own, in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import amqp

from tests.support.servers import answers, free_port

# Not the command on the PATH, which starts the system's own server.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# A user from another machine is refused if it is "guest".
CONFIGURATION = "default_user = outbound\ndefault_pass = secret\nlog.file = false\nlog.console = true\n"
LIMIT_TO_START = 90


@contextmanager
def running(host: str) -> Iterator[str]:
    """Start the broker on one address of this machine; yield its URL."""
    folder = Path(mkdtemp(prefix="outbound-rabbitmq-", dir="/var/tmp"))
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    as_whom = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    (folder / "rabbitmq.conf").write_text(CONFIGURATION)
    (folder / "plugins").write_text("[].\n")
    for path in (folder, *folder.iterdir()):
        if account:
            os.chown(path, account.pw_uid, account.pw_gid)
    port = free_port(host)
    # Erlang's name server and the port between nodes are the test's own as well.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
        "RABBITMQ_NODENAME": f"outbound{os.getpid()}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": host,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603
            [PROGRAM], env=environment, cwd="/", stdout=log, stderr=log, start_new_session=True, **as_whom
        )

    def connect() -> None:
        with amqp.Connection(f"{host}:{port}", userid="outbound", password="secret", connect_timeout=2):
            pass

    try:
        answers(connect, (OSError, amqp.exceptions.AMQPError), within=LIMIT_TO_START)
        yield f"amqp://outbound:secret@{host}:{port}//"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
        # Erlang's name server is a daemon, which would stay.
        subprocess.run(["epmd", "-kill"], env=environment, capture_output=True, check=False)  # noqa: S607
        shutil.rmtree(folder, ignore_errors=True)
