"""Addresses, ports and interfaces, found without asking any name server but for the endpoint's own host."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterable

import psutil

from benchbox.errors import BadInputError, NodeError
from benchbox.plan.tomlfile import quoted

TRY_AGAIN_AFTER_S = 0.5
_LEAST_TRY_S = 0.1


def listen(host: str, port: int) -> socket.socket:
    """A listening socket at ``host``, which must be this machine.

    A name that means the machine itself by a loopback address, as Debian's ``127.0.1.1`` does, could not be
    reached from another machine, so such a name is listened for on all addresses.

    Raises:
        BadInputError: the name does not resolve, or the address is not this machine's or taken.
    """
    where = f"--rdzv-endpoint: {quoted(f'{host}:{port}')}"
    addresses = _resolved(host, port, where)
    if not _is_literal(host) and all(_is_loopback(found[4]) for found in addresses):
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("0.0.0.0", port))]  # noqa: S104 - see above
    family, kind, protocol, _, address = addresses[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise BadInputError(f"{where}: node 0 cannot listen there: {error.strerror or error}") from None
    return listening


def connect(host: str, port: int, within_s: float) -> socket.socket:
    """Connect to node 0, which may start later: tries until ``within_s`` are over.

    Raises:
        NodeError: it could not be reached in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        left_s = max(_LEAST_TRY_S, deadline - time.monotonic())
        try:
            return socket.create_connection((host, port), timeout=left_s)
        except OSError as error:
            if time.monotonic() + TRY_AGAIN_AFTER_S > deadline or _is_no_name(error):
                raise NodeError(
                    f"node 0 could not be reached at {host}:{port} (tried for up to {within_s:g} s): "
                    f"{error.strerror or error}"
                ) from None
        time.sleep(TRY_AGAIN_AFTER_S)


def free_port(address: str) -> int:
    """A port that nobody listens on at ``address`` right now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.bind((address, 0))
        port: int = trying.getsockname()[1]
        return port


def interface_of(address: str) -> str:
    """The name of the network interface that has ``address``.

    Raises:
        NodeError: none has.
    """
    wanted = _bare(address)
    for name, addresses in psutil.net_if_addrs().items():
        if any(_bare(known.address) == wanted for known in addresses):
            return name
    raise NodeError(f"no network interface of this machine has the address {address}")


def gloo_interface(address: str) -> str:
    """What gloo's ranks are to meet on: as the user set it, or else the interface that has ``address``."""
    return os.environ.get("GLOO_SOCKET_IFNAME") or interface_of(address)


def _resolved(host: str, port: int, where: str) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    try:
        found: Iterable[tuple[int, int, int, str, tuple[object, ...]]] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise BadInputError(f"{where}: {error.strerror or error}") from None
    return list(found)


def _is_no_name(error: OSError) -> bool:
    """Whether there is no such host, which waiting does not mend."""
    return isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(address: tuple[object, ...]) -> bool:
    return ipaddress.ip_address(str(address[0])).is_loopback


def _bare(address: str) -> str:
    """Without the scope that follows a link-local address."""
    return address.partition("%")[0]
