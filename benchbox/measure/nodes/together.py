"""One attempt on several nodes, as node 0 sees it: begun everywhere, ended everywhere, all results taken."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchbox.measure.nodes.link import Link
from benchbox.measure.nodes.merge import does_fit
from benchbox.schema import AttemptResult, WorkerTask
from benchbox.schema.nodes import Abort, Result, Start

END_WITHIN_S = 5.0
"""For the other nodes, once an attempt has ended on one: time enough for their own ranks to say why."""
_RESULT_WITHIN_S = 60.0
"""For a node's result to come after that: a process may have to be killed, and the result be sent."""
_LOOK_EVERY_S = 0.05


class OtherNodes:
    """The other nodes of one attempt, from its start on.

    ``results`` are those that have come, by node; ``lost`` says of each node that is gone how that was
    noticed.
    """

    def __init__(self, links: Mapping[int, Link], task: WorkerTask) -> None:
        assert task.place is not None
        self.results: dict[int, AttemptResult] = {}
        self.lost: dict[int, str] = {}
        self._links = dict(links)
        self._task = task
        self._end_at: float | None = None
        start = Start(case_id=task.case.case_id, attempt=task.attempt, master_port=task.place.master_port)
        for link in self._links.values():
            link.send(start)

    def should_stop(self) -> bool:
        """Whether node 0's own part is to be ended: at once where a node is gone, and a moment after the
        attempt has ended on one."""
        self._look()
        if self.results or self.lost:
            self.abort()
        return bool(self.lost) or (self._end_at is not None and time.monotonic() > self._end_at)

    def abort(self) -> None:
        """Have all nodes end the attempt that have not done so."""
        if self._end_at is not None:
            return
        self._end_at = time.monotonic() + END_WITHIN_S
        abort = Abort(case_id=self._task.case.case_id, attempt=self._task.attempt)
        for node, link in self._links.items():
            if node not in self.results:
                link.send(abort)

    def collect(self) -> None:
        """Wait until every node has sent its result or is lost."""
        self.abort()
        deadline = time.monotonic() + _RESULT_WITHIN_S
        while self._missing():
            self._look()
            for node in self._missing() if time.monotonic() > deadline else ():
                self._links[node].end(f"sent no result within {_RESULT_WITHIN_S:g} s")
            time.sleep(_LOOK_EVERY_S if self._missing() else 0)

    def _missing(self) -> list[int]:
        return [node for node in self._links if node not in self.results and node not in self.lost]

    def _look(self) -> None:
        for node in self._missing():
            link = self._links[node]
            trouble = link.trouble  # before asking: what came before the end counts
            message = link.receive(0)
            if isinstance(message, Result) and does_fit(message.result, self._task, node):
                self.results[node] = message.result
            elif message is not None:
                link.end("sent what does not belong to this attempt")
            elif trouble is not None:
                self.lost[node] = f"{link.name} {trouble}"
