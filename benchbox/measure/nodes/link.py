"""One end of the connection between two nodes' controllers: typed messages, and whether the other is alive.

Messages are lines of JSON of known types and bounded length; what does not fit ends the connection. Either
end sends a heartbeat every second, so that a node whose cable was cut, which closes nothing, is noticed too.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import threading
import time

import msgspec

from benchbox.plan.tomlfile import clipped
from benchbox.schema.nodes import Goodbye, Heartbeat, NodeMessage

MAX_LINE_BYTES = 128 << 20
"""A result holds every step time of every rank of a node, and its samples."""
HEARTBEAT_EVERY_S = 1.0
LOST_AFTER_S = 10.0
"""Without a byte from the other end."""
_RECEIVE_BYTES = 1 << 20

_message = msgspec.json.Decoder(NodeMessage)


class Link:
    """Sends and receives from the moment that it is made, in a thread of its own.

    ``name`` is the other node with its address, for messages to the user. ``trouble`` says how the connection
    ended, and is ``None`` while it stands; ``farewell`` is the other end's goodbye where it said one.
    """

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.name = name
        self.trouble: str | None = None
        self.farewell: Goodbye | None = None
        self.local_address: str = connection.getsockname()[0]
        self.peer_address: str = connection.getpeername()[0]
        self._socket = connection
        self._socket.settimeout(LOST_AFTER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sending = threading.Lock()
        self._received: queue.SimpleQueue[NodeMessage | None] = queue.SimpleQueue()
        self._pending = bytearray()
        self._thread = threading.Thread(target=self._run, name="benchbox-link", daemon=True)
        self._thread.start()

    def send(self, message: NodeMessage) -> None:
        """Send ``message``; where that cannot be done the connection ends, and ``trouble`` says so."""
        self._send_line(msgspec.json.encode(message) + b"\n", wait=True)

    def receive(self, timeout_s: float | None = None) -> NodeMessage | None:
        """The next message; ``None`` once the time is over, or the connection with all that came over it.

        ``timeout_s`` of ``None`` waits for ever, that is to say for a message or the end of the connection.
        """
        try:
            message = self._received.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if message is None:
            self._received.put(None)  # for the next call
        return message

    def end(self, trouble: str) -> None:
        """End the connection for the reason ``trouble``; a second call changes nothing."""
        if self.trouble is None:
            self.trouble = trouble
            self._received.put(None)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, and the thread."""
        self.end("this node closed the connection")
        self._thread.join(HEARTBEAT_EVERY_S + LOST_AFTER_S)
        self._socket.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        heard_at = beat_at = time.monotonic()
        while self.trouble is None:
            wait_s = max(0.0, beat_at + HEARTBEAT_EVERY_S - time.monotonic())
            try:
                if poll.poll(1000 * wait_s):
                    heard_at = time.monotonic()
                    self._read()
            except OSError as error:
                self.end(f"cannot be reached: {error.strerror or error}")
            now = time.monotonic()
            if now - heard_at > LOST_AFTER_S:
                self.end(f"was silent for {now - heard_at:.0f} s")
            if self.trouble is None and now - beat_at >= HEARTBEAT_EVERY_S:
                beat_at = now
                self._send_line(msgspec.json.encode(Heartbeat()) + b"\n", wait=False)

    def _read(self) -> None:
        received = self._socket.recv(_RECEIVE_BYTES)
        if not received:
            self.end("closed the connection")
            return
        searched = len(self._pending)
        self._pending += received
        while (end := self._pending.find(b"\n", searched)) >= 0 and self.trouble is None:
            line = bytes(self._pending[:end])
            del self._pending[: end + 1]
            searched = 0
            self._take(line)
        if len(self._pending) > MAX_LINE_BYTES:
            self.end(f"sent a message of more than {MAX_LINE_BYTES >> 20} MiB")

    def _take(self, line: bytes) -> None:
        try:
            message = _message.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.end(f"sent what is no message: {clipped(str(error), 200)}")
            return
        if isinstance(message, Goodbye):
            self.farewell = message
            self.end("left the run" if message.reason is None else clipped(message.reason, 500))
        elif not isinstance(message, Heartbeat):
            self._received.put(message)

    def _send_line(self, line: bytes, *, wait: bool) -> None:
        """A heartbeat does not ``wait``: where something else is being sent, that is a sign of life too."""
        if not self._sending.acquire(blocking=wait):
            return
        try:
            rest = memoryview(line)
            while rest and self.trouble is None:
                rest = rest[self._socket.send(rest[:_RECEIVE_BYTES]) :]
        except TimeoutError:
            self.end(f"took nothing for {LOST_AFTER_S:g} s")
        except OSError as error:
            self.end(f"cannot be reached: {error.strerror or error}")
        finally:
            self._sending.release()
