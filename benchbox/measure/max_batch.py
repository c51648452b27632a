"""The largest batch that each configuration trains: doubling, then bisection, each try in a fresh process."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
import psutil

from benchbox.measure import cgroup
from benchbox.measure.batch_tries import headroom_bytes, summarize_try
from benchbox.measure.site import Site
from benchbox.plan.batch_search import DEFAULT_PRECISION_PCT, Search
from benchbox.plan.configurations import configurations, with_batch_size
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    BatchTry,
    Case,
    ConfigurationResult,
    MaxBatchReport,
    MeasureSettings,
    SearchEnd,
    Suite,
    WorkerTask,
)

MEMORY_SHARE = 0.8
"""Of what is available at the start: the rest is left to the machine."""
_MAX_SECONDS = 2.0
_MAX_STEPS = 50


class Options(NamedTuple):
    """How far and how closely to search."""

    precision_pct: float = DEFAULT_PRECISION_PCT
    max_batch_size: int | None = None
    memory_limit_bytes: int | None = None
    """Of all processes of a configuration together, on a CPU; ``None``: a share of what is available."""


class Tried(NamedTuple):
    """One try has ended."""

    case: Case
    result: BatchTry


class MaxBatchRun:
    """One search over a suite's configurations.

    Entering it starts a worker server and learns the environment; ``events`` then searches. ``report`` is
    what there is so far, so that an interrupted search loses nothing.

    Raises (on entering):
        BadInputError: no such device.
        WorkerStartError: the worker's interpreter cannot be started.
    """

    def __init__(self, suite: Suite, suite_dir: Path, *, device: str, options: Options) -> None:
        self.configurations = configurations(suite)
        self._suite = suite
        self._suite_dir = suite_dir.absolute()
        self._options = options
        self._settings = try_settings(suite.measure)
        self._site = Site(self.configurations, self._settings, device)
        self._found: list[ConfigurationResult] = []
        self._running: tuple[Case, Search, list[BatchTry]] | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> MaxBatchRun:
        with contextlib.ExitStack() as closing:
            folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="benchbox-max-batch-"))
            self._work_dir = Path(folder)
            closing.enter_context(self._site)
            on_cpu = not self._site.placement.devices
            wanted = self._options.memory_limit_bytes or int(MEMORY_SHARE * memory_available_bytes())
            self.memory_limit_bytes = wanted if on_cpu else None
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def events(self) -> Generator[Tried | ConfigurationResult, None, None]:
        """Search every configuration. Closing the iterator ends the running try."""
        for case in self.configurations:
            search = Search(
                case.per_device_batch_size, self._options.max_batch_size, self._options.precision_pct
            )
            tries: list[BatchTry] = []
            self._running = case, search, tries
            failure = self._site.why_unsupported(case)
            while failure is None and (batch_size := search.next()) is not None:
                tried = self._try(with_batch_size(case, batch_size), len(tries))
                tries.append(tried)
                if tried.outcome in ("ok", "invalid", "oom"):
                    search.tell(batch_size, fits=tried.outcome != "oom")
                else:
                    failure = f"batch {batch_size}: {tried.outcome}: {tried.reason}"
                yield Tried(case, tried)
            ended_by: SearchEnd = search.end if failure is None else "failure"
            self._found.append(self._result(case, search, tries, ended_by, failure))
            self._running = None
            yield self._found[-1]

    def report(self) -> MaxBatchReport:
        """What is known so far."""
        found = list(self._found)
        if self._running is not None:
            found.append(self._result(*self._running, "interrupt", None))
        return MaxBatchReport(
            schema_version=SCHEMA_VERSION,
            created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
            suite=self._suite.name,
            environment=self._site.environment,
            measure=self._settings,
            precision_pct=self._options.precision_pct,
            max_batch_size=self._options.max_batch_size,
            complete=len(self._found) == len(self.configurations),
            configurations=tuple(found),
        )

    def _try(self, case: Case, number: int) -> BatchTry:
        folder = self._work_dir / f"{case.case_id}-{number}"
        task = WorkerTask(
            case=case,
            measure=self._settings,
            attempt=0,
            device=self._site.placement.device(),
            extra_passes=False,
            run_dir=str(self._work_dir),
            attempt_dir=str(folder),
            import_dirs=(str(self._suite_dir), str(Path.cwd())),
            data_root=str(self._suite_dir),
            memory_limit_bytes=self._limit_of_one(case),
        )
        with contextlib.closing(self._site.attempt(task)) as watched:
            *_, ended = watched
        assert isinstance(ended, AttemptResult)
        return summarize_try(case, ended)

    def _limit_of_one(self, case: Case) -> int | None:
        return None if self.memory_limit_bytes is None else self.memory_limit_bytes // case.world_size

    def _result(
        self,
        case: Case,
        search: Search,
        tries: Sequence[BatchTry],
        ended_by: SearchEnd,
        reason: str | None,
    ) -> ConfigurationResult:
        limit = self._limit_of_one(case)
        largest = next((t for t in tries if t.per_device_batch_size == search.largest), None)
        timed = [tried for tried in tries if tried.samples_per_second is not None]
        fastest = max(timed, key=lambda tried: tried.samples_per_second or 0.0, default=None)
        return ConfigurationResult(
            case=case,
            tries=tuple(tries),
            ended_by=ended_by,
            reason=reason,
            largest_batch_size=search.largest,
            smallest_failing_batch_size=search.smallest_failing,
            fastest_batch_size=None if fastest is None else fastest.per_device_batch_size,
            fragmentation_pct=None if largest is None else largest.fragmentation_pct,
            headroom_bytes=None
            if largest is None
            else headroom_bytes(
                largest,
                self._site.environment.devices[: case.world_size],
                limit,
                keeps_freed=self._settings.host_allocator == "tuned",
            ),
            memory_limit_bytes=limit,
        )


def try_settings(settings: MeasureSettings) -> MeasureSettings:
    """The suite's settings, made short: a try asks what fits, and about how fast it is."""
    return msgspec.structs.replace(
        settings,
        repetitions=1,
        max_seconds=min(settings.max_seconds, _MAX_SECONDS),
        min_warmup_steps=2,
        max_warmup_steps=_MAX_STEPS,
        min_measured_steps=3,
        max_measured_steps=_MAX_STEPS,
    )


def memory_available_bytes() -> int:
    """Host memory that can be had without swapping, in the control groups of this process too."""
    available = psutil.virtual_memory().available
    return min([available, *cgroup.memory_available_bytes()])
