"""Node 0: it lets the others in, runs its own part of every attempt, and puts all parts together."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from types import TracebackType

from msgspec.structs import replace

from benchbox.errors import NodeError
from benchbox.measure.attempt import Tick, watch_attempt
from benchbox.measure.host_adam import TIMEOUT_S as BUILD_TIMEOUT_S
from benchbox.measure.host_adam import needs_host_adam
from benchbox.measure.launch import START_TIMEOUT_S
from benchbox.measure.nodes.alike import as_node, refuse_differences
from benchbox.measure.nodes.door import Door
from benchbox.measure.nodes.link import Link
from benchbox.measure.nodes.merge import merge
from benchbox.measure.nodes.network import free_port
from benchbox.measure.nodes.options import NodeOptions
from benchbox.measure.nodes.site import NodeSite
from benchbox.measure.nodes.together import OtherNodes
from benchbox.schema import AttemptResult, Case, NodePlace, Suite, WorkerTask
from benchbox.schema.nodes import Goodbye, Ready


class FirstNode(NodeSite):
    """Entering it waits for all the other nodes, and until each knows what it is.

    ``trouble`` names the first node that has been lost while the run went on, ``None`` where none was.
    Attempts that need a lost node are left out; all others go on. ``was_interrupted`` is for the caller
    to set who has ended the run early: the other nodes are told so.

    Raises (on entering), as :class:`Site`, and:
        BadInputError: node 0 cannot listen at the endpoint.
        NodeError: a node does not come, does not fit, or leaves again.
    """

    def __init__(self, suite: Suite, device: str, options: NodeOptions) -> None:
        super().__init__(suite.cases, suite.measure, device, options)
        self.trouble: str | None = None
        self.was_interrupted = False
        self._suite = suite
        self._links: dict[int, Link] = {}

    def __enter__(self) -> FirstNode:
        with contextlib.ExitStack() as closing:
            self._door = closing.enter_context(Door(self.options, self._suite))
            closing.push(self._say_goodbye)
            self._links = dict(enumerate(self._door.all_links(), start=1))
            self.address = self._links[1].local_address
            super().__enter__()
            closing.push(super().__exit__)
            self._wait_for_ready()
            self._leaving = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.__exit__(kind, error, trace)

    def attempt(self, task: WorkerTask) -> Generator[Tick | AttemptResult, None, None]:
        """As :meth:`Site.attempt`. Yields nothing for a case that needs a node that is lost."""
        num_nodes = self.num_nodes(task.case)
        if num_nodes == 1 or self.why_unsupported(task.case) is not None:
            yield from super().attempt(task)
            return
        links = {node: self._links[node] for node in range(1, num_nodes)}
        for link in links.values():
            self._note(link)
        if not any(link.trouble for link in links.values()):
            yield from self._together(replace(task, place=self._new_place(task.case)), links)

    def _together(
        self, task: WorkerTask, links: dict[int, Link]
    ) -> Generator[Tick | AttemptResult, None, None]:
        others = OtherNodes(links, task)
        try:
            server, variables = self.running_server(task.case), self.rank_variables(task.case)
            sampler = self.sampler(task.case)
            watched = watch_attempt(server, task, sampler, variables, others.should_stop)
            with contextlib.closing(watched):
                for event in watched:
                    if isinstance(event, AttemptResult):
                        others.collect()
                        yield merge({0: event} | others.results, others.lost)
                    else:
                        yield event
        finally:
            others.abort()  # where this node was interrupted, or an error of its own ended it
            for link in links.values():
                self._note(link)

    def _new_place(self, case: Case) -> NodePlace:
        return NodePlace(
            node=0,
            num_nodes=self.num_nodes(case),
            num_local_ranks=self.num_local_ranks,
            local_address=self.address,
            master_address=self.address,
            master_port=free_port(self.address),
        )

    def _wait_for_ready(self) -> None:
        builds = any(map(needs_host_adam, self._suite.cases))
        deadline = time.monotonic() + START_TIMEOUT_S + (BUILD_TIMEOUT_S if builds else 0)
        found = []
        for node, link in self._links.items():
            ready = link.receive(max(0.0, deadline - time.monotonic()))
            if not isinstance(ready, Ready):
                raise NodeError(f"{link.name} {link.trouble or 'did not get ready in time'}")
            refuse_differences(self.environment, ready.environment, link.name)
            if ready.num_local_ranks != self.num_local_ranks:
                raise NodeError(
                    f"{link.name} has {ready.num_local_ranks} ranks, and node 0 has {self.num_local_ranks}; "
                    "give every node the same --nproc-per-node"
                )
            found.append(as_node(ready.environment, node))
        self.environment = replace(self.environment, nodes=tuple(found))

    def _note(self, link: Link) -> None:
        if link.trouble is not None and self.trouble is None:
            self.trouble = f"{link.name} {link.trouble}"

    def _say_goodbye(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        reason = None
        if self.was_interrupted or (kind is not None and issubclass(kind, KeyboardInterrupt)):
            reason = "was interrupted"
        elif kind is not None:
            reason = f"ended the run: {error}"
        for link in self._door.links():
            link.send(Goodbye(reason=reason))
            link.close()
