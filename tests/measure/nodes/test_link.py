"""The connection between two controllers: what passes, and all the ways in which it ends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from benchbox.measure.nodes import link as link_module
from benchbox.measure.nodes.link import Link
from benchbox.schema.nodes import Abort, Goodbye, Heartbeat, NodeMessage, Result, Start
from tests.factories import make_attempt, make_case, make_rank
from tests.runs import wait_until

START = Start(case_id="0123456789ab", attempt=2, master_port=29_500)


class Pair:
    """A link, and the bare other end of its connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.far = socket.create_connection(listening.getsockname())
            near, _ = listening.accept()
        self.link = Link(near, "node 1 (127.0.0.1)")

    def says(self, line: bytes) -> None:
        self.far.sendall(line)

    def ends(self) -> str:
        assert wait_until(lambda: self.link.trouble, 20)
        return str(self.link.trouble)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.link.close()
    made.far.close()


def line(message: NodeMessage) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def test_messages_come_in_order_and_whole_however_they_are_cut(pair: Pair) -> None:
    sent = [START, Abort(case_id="0123456789ab", attempt=2), START]
    data = b"".join(map(line, sent))
    for place in range(0, len(data), 7):
        pair.says(data[place : place + 7])
    assert [pair.link.receive(10) for _ in sent] == sent
    assert pair.link.receive(0) is None
    assert pair.link.trouble is None


def test_a_result_of_many_megabytes_passes_between_two_links() -> None:
    case = make_case()
    steps = tuple(range(10**8, 10**8 + 400_000))
    result = Result(result=make_attempt(case, 0, msgspec.structs.replace(make_rank(), step_time_ns=steps)))
    pair = Pair()
    other = Link(pair.far, "node 0 (127.0.0.1)")
    try:
        other.send(result)
        assert pair.link.receive(60) == result
    finally:
        other.close()
        pair.link.close()


def test_heartbeats_are_sent_and_are_nothing_to_the_receiver(pair: Pair) -> None:
    pair.far.settimeout(20)
    with pair.far.makefile("rb") as received:
        assert received.readline() == line(Heartbeat())
    pair.says(line(Heartbeat()) + line(START))
    assert pair.link.receive(10) == START


def test_a_goodbye_ends_the_connection_with_its_reason(pair: Pair) -> None:
    pair.says(line(START) + line(Goodbye(reason="was interrupted")))
    assert pair.link.receive(10) == START
    assert pair.link.receive(10) is None
    assert pair.link.receive() is None  # and does not wait
    assert pair.ends() == "was interrupted"
    assert pair.link.farewell == Goodbye(reason="was interrupted")


def test_an_end_without_a_goodbye_is_told(pair: Pair) -> None:
    pair.far.close()
    assert pair.ends() == "closed the connection"
    assert pair.link.farewell is None


RUBBISH = {
    "no json": b"GET / HTTP/1.1\r\n",
    "not a message": b"[1, 2]\n",
    "of no known type": b'{"type": "shell", "command": "reboot"}\n',
    "with a field too many": b'{"type":"abort","case_id":"x","attempt":0,"import":"os"}\n',
    "with a port that is none": b'{"type":"start","case_id":"x","attempt":0,"master_port":70000}\n',
    "with a negative attempt": b'{"type":"start","case_id":"x","attempt":-1,"master_port":7000}\n',
    "not text": b'{"type": "abort", "case_id": "\xff\xfe"}\n',
    "nested without end": b"[" * 100_000 + b"\n",
    "empty": b"\n",
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_what_is_no_message_ends_the_connection(pair: Pair, kind: str) -> None:
    pair.says(RUBBISH[kind] + line(START))
    assert pair.ends().startswith("sent what is no message: ")
    assert pair.link.receive(1) is None  # what came behind it is not taken any more
    assert pair.ends().isprintable()


def test_a_message_without_end_is_not_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MAX_LINE_BYTES", 1 << 20)
    with contextlib.suppress(OSError):  # the link is closed while the rest is still being sent
        pair.says(b"x" * (2 << 20))
    assert pair.ends() == "sent a message of more than 1 MiB"


def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a cut cable, which closes nothing."""
    monkeypatch.setattr(link_module, "LOST_AFTER_S", 1.0)
    pair = Pair()
    assert pair.ends().startswith("was silent for ")
    pair.far.close()
    pair.link.close()


def test_one_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while it sends: a process that hangs may have a thread that does not."""
    case = make_case()
    rank = msgspec.structs.replace(make_rank(), step_time_ns=tuple(range(10**8, 10**8 + 2_000_000)))
    monkeypatch.setattr(link_module, "LOST_AFTER_S", 3.0)
    pair = Pair()
    done = threading.Event()

    def keep_alive() -> None:
        while not done.wait(0.1):
            with contextlib.suppress(OSError):
                pair.far.sendall(line(Heartbeat()))

    threading.Thread(target=keep_alive, daemon=True).start()
    pair.link.send(Result(result=make_attempt(case, 0, rank)))
    assert pair.ends() == "took nothing for 3 s"
    done.set()
    pair.far.close()
    pair.link.close()


def test_sending_over_a_connection_that_is_gone_raises_nothing(pair: Pair) -> None:
    pair.far.close()
    pair.ends()
    pair.link.send(START)
    assert pair.link.receive(0) is None
