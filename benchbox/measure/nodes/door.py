"""Where the nodes of a run meet: node 0 lets in those that belong to it, and turns away everybody else."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from types import TracebackType

import msgspec

import benchbox
from benchbox.errors import NodeError
from benchbox.measure.nodes.link import Link
from benchbox.measure.nodes.network import connect, listen
from benchbox.measure.nodes.options import NodeOptions
from benchbox.plan.tomlfile import clipped
from benchbox.schema import SCHEMA_VERSION, Suite
from benchbox.schema.nodes import Hello, Refused, Welcome

JOIN_WITHIN_S = 300.0
"""All nodes must have come by then: a batch system may start them minutes apart."""
_GREET_WITHIN_S = 5.0
_MAX_GREETING_BYTES = 1 << 16
_MAX_GREETED_AT_ONCE = 32


def hello(options: NodeOptions, suite: Suite) -> Hello:
    """What a node says of itself first."""
    return Hello(
        benchbox=benchbox.__version__,
        schema_version=SCHEMA_VERSION,
        suite_digest=hashlib.sha256(msgspec.json.encode(suite)).hexdigest(),
        num_nodes=options.num_nodes,
        node=options.node,
    )


class Door:
    """Listens at the endpoint for as long as the run lasts. Each caller is greeted in a thread of its own, so
    that one who says nothing holds up nobody.

    Raises:
        BadInputError: node 0 cannot listen there.
    """

    def __init__(self, options: NodeOptions, suite: Suite) -> None:
        self._own = hello(options, suite)
        self._links: dict[int, Link] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._greeted = threading.Semaphore(_MAX_GREETED_AT_ONCE)
        self._listening = listen(options.host, options.port)
        threading.Thread(target=self._serve, name="benchbox-door", daemon=True).start()

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listening.close()

    def all_links(self) -> tuple[Link, ...]:
        """Wait for all the other nodes; their links, by number.

        Raises:
            NodeError: some have not come in time.
        """
        wanted = range(1, self._own.num_nodes)
        deadline = time.monotonic() + JOIN_WITHIN_S
        with self._changed:
            while missing := [node for node in wanted if node not in self._links]:
                if not self._changed.wait(min(1.0, max(0.0, deadline - time.monotonic()))) and (
                    time.monotonic() >= deadline
                ):
                    raise NodeError(_not_come(missing))
            return tuple(self._links[node] for node in wanted)

    def links(self) -> tuple[Link, ...]:
        """Those of the nodes that have come so far."""
        with self._changed:
            return tuple(self._links.values())

    def _serve(self) -> None:
        while not self._is_closed:
            try:
                connection, address = self._listening.accept()
            except OSError:
                time.sleep(0.05)  # out of file descriptors, perhaps; or the door is closed
                continue
            if self._greeted.acquire(blocking=False):
                threading.Thread(target=self._greet, args=(connection, address[0]), daemon=True).start()
            else:
                connection.close()

    def _greet(self, connection: socket.socket, address: str) -> None:
        try:
            said = msgspec.json.decode(read_line(connection), type=Hello)
            self._let_in(said, connection, address)
        except (OSError, EOFError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            connection.close()  # whoever it was, it is none of this run's nodes
        finally:
            self._greeted.release()

    def _let_in(self, said: Hello, connection: socket.socket, address: str) -> None:
        with self._changed:
            reason = self._why_refused(said)
            if reason is None:
                connection.sendall(msgspec.json.encode(Welcome()) + b"\n")
                self._links[said.node] = Link(connection, f"node {said.node} ({address})")
                self._changed.notify_all()
                return
        connection.sendall(msgspec.json.encode(Refused(reason=reason)) + b"\n")
        connection.close()

    def _why_refused(self, said: Hello) -> str | None:
        own = self._own
        if (said.benchbox, said.schema_version) != (own.benchbox, own.schema_version):
            return (
                f"node 0 runs benchbox {own.benchbox} (schema {own.schema_version}), this node "
                f"{clipped(said.benchbox, 40)} (schema {said.schema_version}); install the same everywhere"
            )
        if said.suite_digest != own.suite_digest:
            return "this node's suite is not node 0's; give every node the same suite file"
        if said.num_nodes != own.num_nodes:
            return f"node 0 was started with --nnodes {own.num_nodes}, this node with {said.num_nodes}"
        if not 0 < said.node < own.num_nodes:
            return f"--node-rank {said.node}: node 0 waits for 1 to {own.num_nodes - 1}"
        if said.node in self._links:
            return f"--node-rank {said.node}: {self._links[said.node].name} has come already"
        return None


def join(options: NodeOptions, suite: Suite) -> Link:
    """Knock at node 0's door, for as long as it may take to start.

    Raises:
        NodeError: it cannot be reached, is no benchbox, or refuses this node.
    """
    where = f"{options.host}:{options.port}"
    connection = connect(options.host, options.port, JOIN_WITHIN_S)
    try:
        connection.sendall(msgspec.json.encode(hello(options, suite)) + b"\n")
        answer = msgspec.json.decode(read_line(connection), type=Welcome | Refused)
    except (OSError, EOFError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        connection.close()
        raise NodeError(f"what answers at {where} is not node 0 of a benchbox run") from None
    if isinstance(answer, Refused):
        connection.close()
        raise NodeError(f"node 0 at {where} refuses this node: {clipped(answer.reason, 500)}")
    return Link(connection, f"node 0 ({connection.getpeername()[0]})")


def read_line(connection: socket.socket) -> bytes:
    """The first line that comes, byte by byte, so that none of the next is taken.

    Raises:
        EOFError: it did not come whole, was too long or took too long.
    """
    deadline = time.monotonic() + _GREET_WITHIN_S
    line = bytearray()
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or len(line) > _MAX_GREETING_BYTES:
            raise EOFError
        connection.settimeout(left_s)
        received = connection.recv(1)
        if not received:
            raise EOFError
        line += received
    return bytes(line)


def _not_come(missing: list[int]) -> str:
    who = f"node {missing[0]} has" if len(missing) == 1 else f"nodes {', '.join(map(str, missing))} have"
    return (
        f"{who} not come within {JOIN_WITHIN_S:g} s; start the same command on every node "
        "(under Slurm with srun), or say --nnodes 1"
    )
