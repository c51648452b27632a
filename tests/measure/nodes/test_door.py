"""Who is let into a run on several machines, and who is not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest

from benchbox.errors import BadInputError, NodeError
from benchbox.measure.nodes import door as door_module
from benchbox.measure.nodes import network
from benchbox.measure.nodes.door import Door, hello, join
from benchbox.measure.nodes.network import connect, free_port, gloo_interface, interface_of, listen
from benchbox.measure.nodes.options import NodeOptions
from benchbox.schema.nodes import Hello, Start
from tests.factories import make_case, make_suite

SUITE = make_suite([make_case()])


def options(node: int, port: int, num_nodes: int = 3) -> NodeOptions:
    return NodeOptions(num_nodes, node, "127.0.0.1", port, None)


@pytest.fixture
def port() -> int:
    return free_port("127.0.0.1")


@pytest.fixture
def door(port: int) -> Iterator[Door]:
    with Door(options(0, port), SUITE) as made:
        yield made
        for link in made.links():
            link.close()


def test_all_nodes_come_and_are_known_by_number(door: Door, port: int) -> None:
    second, first = join(options(2, port), SUITE), join(options(1, port), SUITE)
    links = door.all_links()
    assert [link.name for link in links] == ["node 1 (127.0.0.1)", "node 2 (127.0.0.1)"]
    start = Start(case_id="x", attempt=0, master_port=1)
    links[1].send(start)
    assert second.receive(10) == start
    assert first.receive(0) is None
    first.close()
    second.close()


def knock(door_port: int, **changes: object) -> str:
    """What a node is told that says of itself what a good one says but for ``changes``."""
    said = msgspec.structs.replace(hello(options(1, door_port), SUITE), **changes)
    with socket.create_connection(("127.0.0.1", door_port), timeout=10) as connection:
        connection.sendall(msgspec.json.encode(said) + b"\n")
        return connection.makefile().readline()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchbox": "9.9"}, "benchbox 9.9|install the same everywhere"),
        ({"schema_version": 99}, "schema 99"),
        ({"suite_digest": "0" * 64}, "suite is not node 0's"),
        ({"num_nodes": 2}, "--nnodes 3, this node with 2"),
        ({"node": 3}, "--node-rank 3: node 0 waits for 1 to 2"),
        ({"node": 0}, "--node-rank 0"),
        ({"node": -1}, "--node-rank -1"),
    ],
)
def test_a_node_that_does_not_belong_is_told_why(
    door: Door, port: int, changes: dict[str, object], reason: str
) -> None:
    answer = msgspec.json.decode(knock(port, **changes))
    assert answer["type"] == "refused"
    assert any(part in answer["reason"] for part in reason.split("|"))
    assert door.links() == ()


def test_a_second_node_of_the_same_number_is_told_so_as_one_line(door: Door, port: int) -> None:
    first = join(options(1, port), SUITE)
    with pytest.raises(NodeError) as told:
        join(options(1, port), SUITE)
    assert str(told.value) == (
        f"node 0 at 127.0.0.1:{port} refuses this node: --node-rank 1: node 1 (127.0.0.1) has come already"
    )
    assert first.trouble is None
    first.close()


def test_another_suite_is_another_digest() -> None:
    other = make_suite([make_case(per_device_batch_size=7)])
    assert hello(options(1, 1), SUITE).suite_digest != hello(options(1, 1), other).suite_digest
    assert hello(options(1, 1), SUITE) == hello(options(1, 2), SUITE)


def test_a_later_version_may_say_more(door: Door, port: int) -> None:
    """So that it is refused by its version, and not as a stranger."""
    said = msgspec.to_builtins(hello(options(1, port), SUITE)) | {"benchbox": "9.9", "more": [1]}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(msgspec.json.encode(said) + b"\n")
        assert "9.9" in connection.makefile().readline()


STRANGERS = {
    "a browser": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "another message": b'{"type":"goodbye","reason":null}\n',
    "a hello that is none": b'{"type":"hello","node":"rm -rf /"}\n',
    "nested without end": b"[" * 60_000 + b"\n",
    "a line without end": b"x" * 200_000,
    "no text": bytes(range(256)) + b"\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_stranger_is_dropped_and_the_run_goes_on(
    door: Door, port: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_GREET_WITHIN_S", 1.0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(STRANGERS[kind])
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1000) == b""  # no word to one who is no node
    monkeypatch.setattr(door_module, "_GREET_WITHIN_S", 60.0)  # those who are get the time that they need
    links = [join(options(node, port), SUITE) for node in (1, 2)]
    assert len(door.all_links()) == 2
    for link in links:
        link.close()


def test_strangers_who_say_nothing_hold_up_nobody(
    door: Door, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_GREET_WITHIN_S", 600.0)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
    links = [join(options(node, port), SUITE) for node in (1, 2)]
    assert len(door.all_links()) == 2
    for connection in silent:
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):  # they are all still there
            connection.recv(1)
        connection.close()
    for link in links:
        link.close()


def test_nodes_that_do_not_come_are_named(door: Door, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "JOIN_WITHIN_S", 0.2)
    link = join(options(2, port), SUITE)
    with pytest.raises(NodeError, match=r"^node 1 has not come within 0\.2 s; .*srun"):
        door.all_links()
    link.close()


def test_what_is_no_benchbox_is_told(port: int) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        connection.recv(1000)
        connection.close()

    with socket.create_server(("127.0.0.1", port)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        with pytest.raises(NodeError, match=f"what answers at 127.0.0.1:{port} is not node 0"):
            join(options(1, port), SUITE)


def test_node_0_may_start_later(port: int) -> None:
    opened: list[socket.socket] = []

    def open_later() -> None:
        time.sleep(0.7)
        opened.append(socket.create_server(("127.0.0.1", port)))

    threading.Thread(target=open_later, daemon=True).start()
    connect("127.0.0.1", port, 30).close()
    opened[0].close()


def test_a_node_0_that_does_not_come_is_told(port: int) -> None:
    with pytest.raises(
        NodeError, match=rf"not be reached at 127.0.0.1:{port} \(tried for up to 0\.1 s\): Connection refused"
    ):
        connect("127.0.0.1", port, 0.1)


def test_no_try_goes_on_for_longer_than_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not answer at all, as behind a firewall, uses up what time a try is given."""
    now_s = 1000.0
    tried_s: list[float] = []

    def silent(_: object, timeout: float) -> None:
        nonlocal now_s
        tried_s.append(timeout)
        now_s += min(timeout, 130.0)  # when the kernel gives up
        raise TimeoutError("timed out")

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr(network.socket, "create_connection", silent)
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    with pytest.raises(NodeError, match=r"tried for up to 300 s\): timed out"):
        connect("node-0", 1, 300)
    assert tried_s == [300.0, 169.5, 39.0]
    assert now_s == 1300.0


def test_node_0_cannot_listen_at_another_machines_address() -> None:
    with pytest.raises(
        BadInputError, match=r"'192\.0\.2\.1:29400': node 0 cannot listen there: Cannot assign"
    ):
        listen("192.0.2.1", 29400)


def test_a_port_that_is_taken_is_told(door: Door, port: int) -> None:
    with pytest.raises(BadInputError, match="node 0 cannot listen there: Address already in use"):
        Door(options(0, port), SUITE)


def test_an_own_name_that_means_loopback_is_listened_for_everywhere(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian gives a machine's own name 127.0.1.1, which no other machine reaches."""
    found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_, **__: [found])
    with listen("own-name", port) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"
    monkeypatch.undo()
    with listen("127.0.0.1", port) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_the_interface_is_that_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert interface_of("127.0.0.1") == gloo_interface("127.0.0.1") == "lo"
    with pytest.raises(NodeError, match=r"no network interface of this machine has the address 192\.0\.2\.1"):
        interface_of("192.0.2.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert gloo_interface("127.0.0.1") == "ib0"


def test_the_first_line_never_changes_its_meaning() -> None:
    """A node of any version must be able to tell and be told that versions differ."""
    assert Hello.__struct_fields__ == ("benchbox", "schema_version", "suite_digest", "num_nodes", "node")
    assert not Hello.__struct_config__.forbid_unknown_fields


def test_a_name_that_does_not_exist_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(network.socket, "getaddrinfo", unknown)
    with pytest.raises(NodeError, match=r"not be reached at no-host:1 .*Name or service not known"):
        connect("no-host", 1, 3600)
