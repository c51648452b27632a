"""What the controllers of one run on several machines say to each other: one message a line, as JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from benchbox.schema._base import Count, PositiveInt, Record
from benchbox.schema.environment import Environment
from benchbox.schema.result import AttemptResult

Port = Annotated[int, Meta(ge=1, le=65_535)]


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", tag_field="type"):
    """A node's first line. Other fields are passed over, so that another version is refused by its name."""

    benchbox: str
    schema_version: int
    suite_digest: str
    num_nodes: int
    node: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="type"):
    """Node 0's answer to a node that does not belong to the run."""

    reason: str


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome", tag_field="type"):
    """Node 0's answer to one that does."""


class Ready(Record, frozen=True, kw_only=True, tag="ready", tag_field="type"):
    """A node knows what it is, and waits for work."""

    environment: Environment
    num_local_ranks: PositiveInt


class Start(Record, frozen=True, kw_only=True, tag="start", tag_field="type"):
    """Node 0 begins an attempt of a case of the suite that every node has loaded itself."""

    case_id: str
    attempt: Count
    master_port: Port
    """Where node 0's torchrun will wait for those of the other nodes."""


class Abort(Record, frozen=True, kw_only=True, tag="abort", tag_field="type"):
    """The attempt has ended on another node: what has not ended by itself in a moment is to be ended."""

    case_id: str
    attempt: Count


class Result(Record, frozen=True, kw_only=True, tag="result", tag_field="type"):
    """How an attempt ended on one node: its own ranks and devices."""

    result: AttemptResult


class Heartbeat(Record, frozen=True, kw_only=True, tag="heartbeat", tag_field="type"):
    """Nothing new; the sender is alive."""


class Goodbye(Record, frozen=True, kw_only=True, tag="goodbye", tag_field="type"):
    """The sender leaves the run."""

    reason: str | None
    """``None``: node 0 has done all there was to do."""


NodeMessage = Ready | Start | Abort | Result | Heartbeat | Goodbye
"""All that is said after the first line and its answer."""
