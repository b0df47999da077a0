"""Two network namespaces of Linux: their programs act like those of two machines in two networks.

Each is joined to this thread's own namespace by a pair of virtual interfaces. Its programs reach only the servers on
HOST, and have an address of their own. The addresses are reserved for documentation, so no real network has them.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The address of this thread for both namespaces.
HOST = "198.51.100.1"
CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:00:99"
LINKS = (("198.51.100.1", "198.51.100.2"), ("203.0.113.1", "203.0.113.2"))


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace, and the address that its programs have."""

    name: str
    address: str
    # The interface of this thread's namespace that leads to it, and its address.
    link: str
    host: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The beginning of a command that runs in the namespace."""
        return ("ip", "netns", "exec", self.name)


def refusal() -> str:
    """Return why namespaces cannot be created here; "" if they can."""
    if shutil.which("ip") is None:
        return "The program ip is not installed: apt-get install iproute2"
    name = f"outbound-{os.getpid()}-try"
    created = run("ip", "netns", "add", name, check=False)
    if created.returncode:
        return f"Network namespaces are not permitted: {created.stderr.strip()}"
    run("ip", "netns", "delete", name)
    return ""


@contextmanager
def own_namespace() -> Iterator[None]:
    """Move this thread, and all threads and programs that it starts, to a namespace of its own.

    A browser of another test repeats no request that a new interface of the machine interrupts.
    """
    system = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if system.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "This thread cannot have a network namespace.")
        try:
            run("ip", "link", "set", "lo", "up")
            yield
        finally:
            system.setns(before.fileno(), CLONE_NEWNET)


@contextmanager
def two_namespaces() -> Iterator[list[Namespace]]:
    """Create both, joined to one for this thread; delete them in the end, and with them their interfaces."""
    found = []
    with own_namespace(), ExitStack() as ends:
        for number, (ours, theirs) in enumerate(LINKS):
            name, link = f"outbound-{os.getpid()}-{number}", f"ob{os.getpid()}{number}"
            run("ip", "netns", "add", name)
            ends.callback(run, "ip", "netns", "delete", name)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", name)
            run("ip", "address", "add", f"{ours}/30", "dev", link)
            run("ip", "link", "set", link, "up")
            run("ip", "-n", name, "address", "add", f"{theirs}/30", "dev", "uplink")
            run("ip", "-n", name, "link", "set", "uplink", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "route", "add", "default", "via", ours)
            found.append(Namespace(name, theirs, link, ours))
        yield found


def cut_off(namespace: Namespace) -> None:
    """Let every packet from and to the namespace vanish, as if the machine lost its network or its power.

    Both sides send to a hardware address that no machine has, so neither is told.
    """
    ours, theirs = neighbours(namespace)
    run(*ours[0], "replace", *ours[1:], "lladdr", NOBODY, "nud", "permanent")
    run(*theirs[0], "replace", *theirs[1:], "lladdr", NOBODY, "nud", "permanent")


def rejoin(namespace: Namespace) -> None:
    """Undo `cut_off`."""
    for command, *neighbour in neighbours(namespace):
        run(*command, "delete", *neighbour)


def neighbours(namespace: Namespace) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return for each side the beginning of a command and the neighbour that it is about."""
    return (
        (("ip", "neighbour"), namespace.address, "dev", namespace.link),
        (("ip", "-n", namespace.name, "neighbour"), namespace.host, "dev", "uplink"),
    )


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True)  # noqa: S603
