"""Two hosts on this machine: network namespaces joined by a cable, which can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runs import BENCHBOX, environment, heed_interrupts


class Hosts:
    """Two namespaces with one end of a veth pair each, and their addresses."""

    def __init__(self, name: str) -> None:
        self.names = (f"{name}a", f"{name}b")
        self.addresses = ("10.71.0.1", "10.71.0.2")

    def start(self, host: int, *arguments: str | Path, cwd: Path, **variables: str) -> subprocess.Popen[str]:
        """Start benchbox on one of them. Ctrl-C reaches it."""
        heed_interrupts()
        inside = ["ip", "netns", "exec", self.names[host]]
        return subprocess.Popen(
            [*inside, BENCHBOX, *map(str, arguments)],
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cut(self) -> None:
        """Cut the cable: nothing passes any more, and nobody is told."""
        _ip("-n", self.names[0], "link", "set", "cable", "down")

    def mend(self) -> None:
        _ip("-n", self.names[0], "link", "set", "cable", "up")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make them, and remove them with all that is left in them."""
    name = f"bb{uuid.uuid4().hex[:8]}"
    hosts = Hosts(name)
    try:
        for host in hosts.names:
            _ip("netns", "add", host)
        first, second = hosts.names
        _ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for host, address in zip(hosts.names, hosts.addresses, strict=True):
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "link", "set", "cable", "up")
        yield hosts
    finally:
        for host in hosts.names:
            subprocess.run(["ip", "netns", "delete", host], capture_output=True, check=False)


def why_no_hosts() -> str | None:
    """Why namespaces cannot be made here; ``None`` where they can."""
    if shutil.which("ip") is None:
        return "the ip command (Debian's iproute2) is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with two_hosts():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"


def skip_without_hosts() -> None:
    """Skip a test where namespaces cannot be made, or fail it with ``BENCHBOX_TWO_HOSTS=required``."""
    reason = why_no_hosts()
    if reason is not None and os.environ.get("BENCHBOX_TWO_HOSTS") == "required":
        pytest.fail(f"BENCHBOX_TWO_HOSTS=required, but {reason}")
    if reason is not None:
        pytest.skip(reason)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
