"""Run a suite: every attempt that the journal lacks, in order, and what watching costs at the end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from types import TracebackType

import msgspec

from benchbox.errors import BadInputError, WorkerStartError, WouldOverwriteError
from benchbox.measure.attempt import Tick, watch_attempt
from benchbox.measure.cost import cost_of_watching, cost_settings, fastest_case
from benchbox.measure.environment import choose_device, describe_environment, visible_device
from benchbox.measure.host_facts import host_facts
from benchbox.measure.journal import Finished, Journal, check_same_run, read_journal
from benchbox.measure.launch import START_TIMEOUT_S, WorkerServer, stderr_tail, worker_variables
from benchbox.measure.nvml import Nvml
from benchbox.measure.order import rounds
from benchbox.measure.sampler import Sampler
from benchbox.plan.hardware import load_profiles, match_profile
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    Case,
    HardwareProfile,
    JournalHeader,
    JournalLine,
    MeasureSettings,
    Suite,
    TelemetryCost,
    TorchFacts,
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
    what is left to run. ``attempts``, ``environment`` and ``telemetry_cost`` are what there is so far, so
    a report can be made at any time.

    Raises (on entering):
        BadInputError: no such device, a folder that cannot be written to, or a journal that cannot be read.
        WouldOverwriteError: the folder holds a run already, and neither ``resume`` nor ``force`` was said.
        ResumeError: the journal belongs to another suite or environment.
        WorkerStartError: the worker's interpreter cannot be started.
    """

    def __init__(
        self, suite: Suite, suite_dir: Path, out_dir: Path, *, device: str, resume: bool, force: bool
    ) -> None:
        self.suite = suite
        self.out_dir = out_dir.absolute()
        self.attempts: list[AttemptResult] = []
        self.telemetry_cost: TelemetryCost | None = None
        self._suite_dir = suite_dir.absolute()
        self._device_choice = device
        self._resume = resume
        self._force = force
        self._work_dir = self.out_dir / "work"
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> SuiteRun:
        with contextlib.ExitStack() as closing:
            self._refuse_to_overwrite()
            self._nvml = Nvml()
            closing.callback(self._nvml.close)
            variables = worker_variables(self.suite.measure, _default_num_threads(), None)
            self._server: WorkerServer | None = WorkerServer(variables)
            closing.callback(self._close_server)
            facts = _ask_torch(self._server, self.suite.measure)
            chosen = choose_device(self._device_choice, facts)
            self._device = "cpu" if chosen is None else "cuda:0"
            self._uuids = () if chosen is None or chosen.uuid is None else (chosen.uuid,)
            visible = visible_device(chosen, facts)
            self._variables = worker_variables(self.suite.measure, _default_num_threads(), visible)
            if self._variables != variables:
                self._close_server()
            self.environment = describe_environment(
                facts, chosen, self._nvml, self.suite.measure, self._variables
            )
            self._open_journal()
            closing.callback(self._journal.close)
            closing.callback(shutil.rmtree, self._work_dir, ignore_errors=True)
            closing.callback(self._close_server)  # first of all, so that no worker writes there any more
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
                if self._is_settled(case, repetition):
                    continue
                num_skipped = sum(self._is_settled(c, r) for r, cs in enumerate(order) for c in cs)
                yield Started(case, repetition, num_skipped, num_total)
                task = self._task(case, self.suite.measure, repetition, extra_passes=repetition == 0)
                with contextlib.closing(
                    watch_attempt(self._running_server(), task, self._sampler())
                ) as watched:
                    for event in watched:
                        if isinstance(event, AttemptResult):
                            self._journal.append(JournalLine(attempt=event))
                            self.attempts.append(event)
                        yield event
            self._close_server()

    def can_measure_cost_of_watching(self) -> bool:
        """False where it is known already, telemetry is off or no case went well."""
        return (
            self.telemetry_cost is None
            and self._sampler() is not None
            and fastest_case(self.suite, self.attempts) is not None
        )

    def measure_cost_of_watching(self) -> None:
        """Set ``telemetry_cost``, where that can be done and the attempt for it goes well."""
        sampler, fastest = self._sampler(), fastest_case(self.suite, self.attempts)
        if self.telemetry_cost is not None or sampler is None or fastest is None:
            return
        case, step_s = fastest
        task = self._task(case, cost_settings(self.suite.measure), 0, extra_passes=False)
        self.telemetry_cost = cost_of_watching(self._running_server(), task, sampler, step_s)
        if self.telemetry_cost is not None:
            self._journal.append(JournalLine(telemetry_cost=self.telemetry_cost))

    def hardware_profile(self) -> HardwareProfile | None:
        """The profile of the device that this run trains on, or ``None``: never another device's."""
        if not self.environment.devices:
            host = self.environment.host
            return match_profile(host.cpu_model, None, load_profiles(), host.num_usable_processors)
        device = self.environment.devices[0]
        return match_profile(
            device.name, device.memory_total_bytes, load_profiles(), device.num_multiprocessors
        )

    def is_complete(self) -> bool:
        """Whether no attempt is left to run."""
        return all(self._is_settled(c, r) for r, cases in enumerate(rounds(self.suite)) for c in cases)

    def _is_settled(self, case: Case, repetition: int) -> bool:
        return any(
            a.case_id == case.case_id and (a.attempt == repetition or a.outcome != "ok")
            for a in self.attempts
        )

    def _task(
        self, case: Case, settings: MeasureSettings, repetition: int, *, extra_passes: bool
    ) -> WorkerTask:
        return WorkerTask(
            case=case,
            measure=settings,
            attempt=repetition,
            device=self._device,
            extra_passes=extra_passes,
            run_dir=str(self._work_dir),
            attempt_dir=str(self._work_dir / f"{case.case_id}-{repetition}-{len(self.attempts)}"),
            import_dirs=(str(self._suite_dir), str(Path.cwd())),
            data_root=str(self._suite_dir),
        )

    def _sampler(self) -> Sampler | None:
        hz = self.suite.measure.telemetry_hz
        return Sampler(hz, self._uuids, self._nvml) if hz > 0 else None

    def _running_server(self) -> WorkerServer:
        if self._server is not None and self._server.has_ended():
            self._close_server()
        if self._server is None:
            self._server = WorkerServer(self._variables)
        return self._server

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _refuse_to_overwrite(self) -> None:
        journal, report = self.out_dir / "journal.jsonl", self.out_dir / "report.json"
        if self.out_dir.exists() and not self.out_dir.is_dir():
            raise BadInputError(f"--out: {self.out_dir}: is a file, not a folder")
        if self._force:
            return
        if self._resume:
            if report.exists() and not journal.exists():
                raise WouldOverwriteError(
                    f"{report}: exists, but no journal beside it to go on with; start anew with --force, "
                    "or choose another --out"
                )
            return
        for path in (journal, report):
            if path.exists():
                raise WouldOverwriteError(
                    f"{path}: exists; go on with --resume, start anew with --force, or choose another --out"
                )

    def _open_journal(self) -> None:
        path = self.out_dir / "journal.jsonl"
        try:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(path)
        except OSError as error:
            raise BadInputError(f"--out: {self.out_dir}: {error.strerror or error}") from None
        try:
            finished = read_journal(path) if self._resume else Finished()
            if finished.header is not None:
                check_same_run(finished.header, self.suite, self.environment, path)
                self.attempts, self.telemetry_cost = finished.attempts, finished.telemetry_cost
            else:
                self._journal.start_anew(
                    JournalHeader(
                        schema_version=SCHEMA_VERSION, suite=self.suite, environment=self.environment
                    )
                )
            shutil.rmtree(self._work_dir, ignore_errors=True)
            self._work_dir.mkdir()
        except BaseException:
            self._journal.close()
            raise


def _default_num_threads() -> int:
    """One arithmetic thread for each physical core that this process may use."""
    host = host_facts()
    return min(host.num_physical_cores or host.num_usable_processors, host.num_usable_processors)


def _ask_torch(server: WorkerServer, settings: MeasureSettings) -> TorchFacts:
    """What the worker's torch says of itself, asked in a fork because the question may open CUDA."""
    with tempfile.TemporaryDirectory() as folder:
        answer, stderr = Path(folder, "facts.json"), Path(folder, "stderr.txt")
        server.start(facts=str(answer), stderr=str(stderr), cudnn_benchmark=settings.cudnn_benchmark)
        status = server.wait(START_TIMEOUT_S)
        if status != 0 or not answer.is_file():
            lines = (stderr_tail(stderr) or "nothing was printed").splitlines()
            raise WorkerStartError(f"torch could not describe this machine (status {status}): {lines[-1]}")
        return msgspec.json.decode(answer.read_bytes(), type=TorchFacts)
