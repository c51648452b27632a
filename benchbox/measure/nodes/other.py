"""Any node but node 0: it runs its part of what node 0 starts, and says how that ended."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from benchbox.errors import NodeError
from benchbox.measure.attempt import watch_attempt
from benchbox.measure.nodes.door import join
from benchbox.measure.nodes.link import Link
from benchbox.measure.nodes.options import NodeOptions
from benchbox.measure.nodes.site import NodeSite
from benchbox.measure.nodes.together import END_WITHIN_S
from benchbox.schema import AttemptResult, Case, NodePlace, Suite, WorkerTask
from benchbox.schema.nodes import Abort, Goodbye, Ready, Result, Start


class OtherNode:
    """Entering it joins the run; ``serve`` then does what node 0 says until it says goodbye.

    Only cases of the suite that this node has loaded itself are ever run.

    Raises (on entering), as :class:`~benchbox.measure.site.Site`, and:
        NodeError: node 0 cannot be reached, or refuses this node.
    """

    def __init__(self, suite: Suite, suite_dir: Path, device: str, options: NodeOptions) -> None:
        self._suite = suite
        self._suite_dir = suite_dir.absolute()
        self._cases = {case.case_id: case for case in suite.cases}
        self._site = NodeSite(suite.cases, suite.measure, device, options)
        self._round: int | None = None
        self._num_started = 0

    def __enter__(self) -> OtherNode:
        with contextlib.ExitStack() as closing:
            self._link = join(self._site.options, self._suite)
            closing.push(self._say_goodbye)
            self._site.address = self._link.local_address
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="benchbox-node-"))
            self._work_dir = Path(folder)
            closing.enter_context(self._site)
            self._link.send(
                Ready(environment=self._site.environment, num_local_ranks=self._site.num_local_ranks)
            )
            self._leaving = closing.pop_all()
        return self

    def __exit__(self, *ending: object) -> None:
        self._leaving.__exit__(*ending)  # type: ignore[arg-type]

    @property
    def of(self) -> str:
        """Node 0, for a message."""
        return self._link.name

    def serve(self) -> None:
        """Run what node 0 starts.

        Raises:
            NodeError: node 0 is lost, has ended early or asks for what cannot be.
        """
        while (message := self._link.receive()) is not None:
            if isinstance(message, Start):
                self._run(message)
            elif not isinstance(message, Abort):  # one that crossed the result on its way
                raise NodeError(
                    f"{self._link.name} sent a {type(message).__name__}, which is not its to send"
                )
        farewell = self._link.farewell
        if farewell is None or farewell.reason is not None:
            raise NodeError(f"{self._link.name} {self._link.trouble}; this node's part of the run has ended")

    def _run(self, start: Start) -> None:
        task = self._task(start)
        if start.attempt != self._round:  # each round of repetitions has a worker server of its own
            self._round = start.attempt
            self._site.close_server()
        server, variables = self._site.running_server(task.case), self._site.rank_variables(task.case)
        ends = _Ends(self._link, task)
        watched = watch_attempt(server, task, self._site.sampler(task.case), variables, ends.should_stop)
        with contextlib.closing(watched):
            for event in watched:
                if isinstance(event, AttemptResult) and not ends.is_lost():
                    self._link.send(Result(result=event))

    def _task(self, start: Start) -> WorkerTask:
        case, options = self._cases.get(start.case_id), self._site.options
        num_local_ranks = self._site.num_local_ranks
        if case is None or start.attempt >= self._suite.measure.repetitions or not self._is_part_of(case):
            raise NodeError(f"{self._link.name} asked for what this node's suite does not have")
        self._num_started += 1
        return WorkerTask(
            case=case,
            measure=self._suite.measure,
            attempt=start.attempt,
            device=self._site.placement.device(),
            extra_passes=start.attempt == 0,
            run_dir=str(self._work_dir),
            attempt_dir=str(self._work_dir / f"{case.case_id}-{self._num_started}"),
            import_dirs=(str(self._suite_dir), str(Path.cwd())),
            data_root=str(self._suite_dir),
            place=NodePlace(
                node=options.node,
                num_nodes=self._site.num_nodes(case),
                num_local_ranks=num_local_ranks,
                local_address=self._link.local_address,
                master_address=self._link.peer_address,
                master_port=start.master_port,
            ),
        )

    def _is_part_of(self, case: Case) -> bool:
        return self._site.why_unsupported(case) is None and self._site.options.node < self._site.num_nodes(
            case
        )

    def _say_goodbye(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None:
            reason = "was interrupted" if issubclass(kind, KeyboardInterrupt) else f"ended: {error}"
            self._link.send(Goodbye(reason=reason))
        self._link.close()


class _Ends:
    """Whether the running attempt is to be ended here."""

    def __init__(self, link: Link, task: WorkerTask) -> None:
        self._link = link
        self._abort = Abort(case_id=task.case.case_id, attempt=task.attempt)
        self._end_at: float | None = None

    def is_lost(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._link.trouble is not None

    def should_stop(self) -> bool:
        """At once where node 0 is gone, and a moment after the attempt has ended on another node."""
        if self._end_at is None and self._link.receive(0) == self._abort:
            self._end_at = time.monotonic() + END_WITHIN_S
        return self.is_lost() or (self._end_at is not None and time.monotonic() > self._end_at)
