"""Run a suite: every attempt that the journal lacks, in order, and what watching costs at the end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator
from pathlib import Path
from types import TracebackType

import msgspec

from benchbox.errors import BadInputError, WorkerStartError
from benchbox.measure.attempt import Tick, unsupported
from benchbox.measure.ceilings import ask_ceilings, probe_seconds
from benchbox.measure.cost import cost_of_watching, cost_settings, fastest_case, watched_seconds
from benchbox.measure.estimate import TIMEOUT_S as ESTIMATE_TIMEOUT_S
from benchbox.measure.estimate import device_of_environment, estimates_for, why_skipped
from benchbox.measure.folder import (
    JOURNAL_NAME,
    REPORT_NAME,
    TRACES_NAME,
    make_work_dir,
    refuse_to_overwrite,
    remove_reports,
)
from benchbox.measure.journal import (
    Finished,
    Journal,
    check_same_environment,
    check_same_suite,
    read_journal,
)
from benchbox.measure.order import Settled, rounds
from benchbox.measure.site import Site
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    Case,
    CaseEstimate,
    Ceilings,
    HardwareProfile,
    JournalHeader,
    JournalLine,
    MeasureSettings,
    Suite,
    TelemetryCost,
    WorkerTask,
)


class Started(msgspec.Struct, frozen=True):
    """An attempt begins."""

    case: Case
    attempt: int
    num_done: int
    num_total: int


class SuiteRun:
    """One run of one suite in one folder.

    Entering it starts a worker server, learns the environment and opens the journal; ``events`` then runs
    what is left to run. ``attempts``, ``environment``, ``ceilings`` and ``telemetry_cost`` are what there is
    so far, so a report can be made at any time.

    Raises (on entering):
        BadInputError: no such device, a folder that cannot be written to, or a journal that cannot be read.
        WouldOverwriteError: the folder holds a run already, and neither ``resume`` nor ``force`` was said.
        ResumeError: the journal belongs to another suite or environment.
        WorkerStartError: the worker's interpreter cannot be started.
    """

    def __init__(
        self,
        suite: Suite,
        suite_dir: Path,
        out_dir: Path,
        *,
        device: str,
        resume: bool,
        force: bool,
        skip_unfit: bool = False,
        trace: bool = False,
        site: Site | None = None,
    ) -> None:
        self.suite = suite
        self.out_dir = out_dir.absolute()
        self.attempts: list[AttemptResult] = []
        self.telemetry_cost: TelemetryCost | None = None
        self.estimates: dict[str, CaseEstimate] = {}
        self.ceilings: Ceilings | None = None
        self._suite_dir = suite_dir.absolute()
        self._resume = resume
        self._skip_unfit = skip_unfit
        self._force = force
        self._trace = trace
        self._settled = Settled(suite)
        self._site = site or Site(suite.cases, suite.measure, device)
        self._journal: Journal | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> SuiteRun:
        with contextlib.ExitStack() as closing:
            refuse_to_overwrite(self.out_dir, resume=self._resume, force=self._force)
            closing.callback(self._close_journal)
            finished = self._read_finished()
            closing.enter_context(self._site)
            self.environment = self._site.environment
            self._open_folder(finished)
            closing.callback(shutil.rmtree, self._work_dir, ignore_errors=True)
            if not (self.is_complete() and (self.out_dir / REPORT_NAME).is_file()):
                self._estimate_memory()
            closing.callback(self._site.close_server)  # first of all, so that no worker writes there any more
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def events(self) -> Generator[Started | Tick | AttemptResult, None, None]:
        """Run every attempt that is not finished yet. Closing the iterator ends the running one.

        A case that failed once is not tried again. Each round of repetitions has a worker server of its own.
        """
        order = rounds(self.suite)
        num_total = sum(map(len, order))
        for repetition, cases in enumerate(order):
            for case in cases:
                if (case.case_id, repetition) in self._settled:
                    continue
                yield Started(case, repetition, len(self._settled), num_total)
                task = self._task(case, self.suite.measure, repetition, extra_passes=repetition == 0)
                with contextlib.closing(self._attempt(task)) as watched:
                    for event in watched:
                        if isinstance(event, AttemptResult):
                            self._append(JournalLine(attempt=event))
                            self.attempts.append(event)
                            self._settled.add(event)
                        yield event
            self._site.close_server()

    def recall(self) -> None:
        """Take what is finished from the journal: Ctrl-C may have come between its line and the list here."""
        self._take(read_journal(self.out_dir / JOURNAL_NAME))

    def can_measure_ceilings(self) -> bool:
        """False where they are known already, were not asked for or nothing is left to run."""
        return self.ceilings is None and probe_seconds(self.suite) > 0 and not self.is_complete()

    def measure_ceilings(self) -> None:
        """Set ``ceilings``, where that can be done and the probes go well."""
        if not self.can_measure_ceilings():
            return
        self.ceilings = ask_ceilings(self._site.running_server(), self.suite, self._site.placement.device())
        if self.ceilings is not None:
            self._append(JournalLine(ceilings=self.ceilings))

    def can_measure_cost_of_watching(self) -> bool:
        """False where it is known already, telemetry is off or no case went well."""
        return (
            self.telemetry_cost is None
            and self.suite.measure.telemetry_hz > 0
            and fastest_case(self.suite, self.attempts) is not None
        )

    def measure_cost_of_watching(self) -> None:
        """Set ``telemetry_cost``, where that can be done and the attempt for it goes well."""
        fastest = fastest_case(self.suite, self.attempts)
        if self.telemetry_cost is not None or fastest is None:
            return
        case, step_s = fastest
        sampler = self._site.sampler(case)
        if sampler is None:
            return
        settings = cost_settings(self.suite.measure, watched_seconds(self.attempts))
        task = self._task(case, settings, 0, extra_passes=False)
        try:
            server = self._site.running_server(case)
        except WorkerStartError:  # all else is measured, and must not be lost for it
            return
        variables = self._site.rank_variables(case)
        self.telemetry_cost = cost_of_watching(server, task, sampler, step_s, variables)
        if self.telemetry_cost is not None:
            self._append(JournalLine(telemetry_cost=self.telemetry_cost))

    def hardware_profile(self) -> HardwareProfile | None:
        """The profile of the device that this run trains on, or ``None``: never another device's."""
        return self._site.hardware_profile()

    def estimates_to_run(self) -> dict[str, CaseEstimate]:
        """Of the cases that this machine can run: of another, what it lacks is all that is to be said."""
        can_run = {case.case_id for case in self.suite.cases if self._site.why_unsupported(case) is None}
        return {case_id: found for case_id, found in self.estimates.items() if case_id in can_run}

    def is_complete(self) -> bool:
        """Whether no attempt is left to run."""
        return self._settled.is_all()

    def untraced(self) -> list[Case]:
        """Cases that went well and whose trace was asked for and not kept: there was no time to profile a
        step, or they were measured before it was asked for."""
        went_well = {attempt.case_id for attempt in self.attempts if attempt.outcome == "ok"}
        return [
            case
            for case in self.suite.cases
            if self._trace and case.case_id in went_well and not self._trace_of(case).is_file()
        ]

    def _trace_of(self, case: Case) -> Path:
        return self.out_dir / TRACES_NAME / f"{case.case_id}.json.gz"

    def _task(
        self, case: Case, settings: MeasureSettings, repetition: int, *, extra_passes: bool
    ) -> WorkerTask:
        return WorkerTask(
            case=case,
            measure=settings,
            attempt=repetition,
            device=self._site.placement.device(),
            extra_passes=extra_passes,
            run_dir=str(self._work_dir),
            attempt_dir=str(self._work_dir / f"{case.case_id}-{repetition}-{len(self.attempts)}"),
            import_dirs=(str(self._suite_dir), str(Path.cwd())),
            data_root=str(self._suite_dir),
            trace_path=str(self._trace_of(case)) if self._trace and extra_passes else None,
            probe_share_s=self.ceilings.probe_s / len(self.suite.cases) if self.ceilings else 0.0,
        )

    def _attempt(self, task: WorkerTask) -> Generator[Tick | AttemptResult, None, None]:
        reason = why_skipped(self.estimates.get(task.case.case_id)) if self._skip_unfit else None
        if reason is not None and self._site.why_unsupported(task.case) is None:
            yield unsupported(task.case, task.attempt, reason)
            return
        yield from self._site.attempt(task)

    def _estimate_memory(self) -> None:
        """Foretell every case's memory, once a run, before anything is measured."""
        self.estimates = estimates_for(
            self.suite.cases,
            device_of_environment(self.environment),
            self._site.running_server,
            (str(self._suite_dir), str(Path.cwd())),
            min(ESTIMATE_TIMEOUT_S, self.suite.measure.effective_timeout_s),
        )

    def _read_finished(self) -> Finished:
        """What there is to go on with; its journal is locked from here on."""
        path = self.out_dir / JOURNAL_NAME
        if not self._resume or not path.exists():
            return Finished()
        self._journal = _opened(path)
        finished = read_journal(path)
        if finished.header is not None:
            check_same_suite(finished.header, self.suite, path)
        return finished

    def _open_folder(self, finished: Finished) -> None:
        """Open the journal, if it is not open yet, and go on with it or start it anew."""
        path = self.out_dir / JOURNAL_NAME
        if self._journal is None:
            self._journal = _opened(path)
        if finished.header is None:
            remove_reports(self.out_dir)
            self._journal.start_anew(
                JournalHeader(schema_version=SCHEMA_VERSION, suite=self.suite, environment=self.environment)
            )
        else:
            check_same_environment(finished.header, self.environment, path)
            self._take(finished)
        self._work_dir = make_work_dir(self.out_dir)

    def _take(self, finished: Finished) -> None:
        self.attempts, self.telemetry_cost = finished.attempts, finished.telemetry_cost
        self.ceilings = finished.ceilings
        for attempt in self.attempts:
            self._settled.add(attempt)

    def _append(self, line: JournalLine) -> None:
        assert self._journal is not None
        self._journal.append(line)

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _opened(path: Path) -> Journal:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Journal(path)
    except OSError as error:
        raise BadInputError(f"--out: {path.parent}: {error.strerror or error}") from None
