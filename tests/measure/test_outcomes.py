"""Every way in which a case can end badly ends that case alone, as its own outcome, and the suite goes on."""

from __future__ import annotations

import pytest

from benchbox.measure.runner import Started, SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.report.from_run import report_of_run
from benchbox.schema import AttemptResult, Outcome, Report
from tests.runs import all_end, copy_user_models, journal_attempts, user_model_suite, write_suite

EXPECTED: dict[str, tuple[Outcome, str, str | None]] = {
    # factory: outcome, what the reason says, what the end of the stderr says
    "good": ("ok", "", None),
    "raises_memory_error": ("oom", "MemoryError", "in raises_memory_error"),
    "allocates_beyond_its_limit": ("oom", "can't allocate memory", "in allocates_beyond_its_limit"),
    "hangs": ("timeout", "still running after 6 s", None),
    "hangs_after_measuring": ("ok", "ended early: still running after 6 s", None),
    "segfaults_after_measuring": ("ok", "ended early: the worker was ended by SIGSEGV", None),
    "segfaults": ("crashed", "ended by SIGSEGV", "in segfaults"),
    "ends_the_process": ("crashed", "left no result; its exit status was 7", None),
    "calls_sys_exit": ("crashed", "SystemExit: there is nothing", "SystemExit: there is nothing"),
    "gives_nan": ("invalid", "the loss is not finite", None),
    "needs_a_missing_extension": (
        "crashed",
        "ModuleNotFoundError: No module named 'an_extension_that_nobody_built'",
        "in needs_a_missing_extension",
    ),
    "prints_to_a_terminal": ("crashed", "RuntimeError", "the last line"),
    "kills_its_server": ("crashed", "the worker", None),
    "returns_no_module": ("crashed", "returned str, not a torch.nn.Module", "TypeError"),
    "is_not_there": ("crashed", "has no attribute 'is_not_there'", "AttributeError"),
    "reads_fp16": ("unsupported", "fp16 training on a CPU", None),
}
GOOD = [name for name, (outcome, *_) in EXPECTED.items() if outcome == "ok"]
BAD = [name for name in EXPECTED if name not in GOOD]
FP16 = '\n[[include]]\nmodel = "mlp"\nsizes = [16, 8, 4]\nprecision = "fp16"\n'


class Course:
    """What happened while the suite ran."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []
        self.leftovers: dict[str, list[int]] = {}
        self.report: Report | None = None
        self.journal: list[AttemptResult] = []

    def attempts(self, name: str) -> list[AttemptResult]:
        assert self.report is not None
        (case,) = (c for c in self.report.cases if factory_of(c.case.model) == name)
        return list(case.attempts)


def factory_of(model: str) -> str:
    return model.partition(":")[2] or "reads_fp16"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("outcomes")
    notes = folder / "notes"
    notes.mkdir()
    copy_user_models(folder)
    text = user_model_suite(*(name for name in EXPECTED if name != "reads_fp16")) + FP16
    path = write_suite(folder, text, repetitions=2, timeout_s=6, num_trajectory_steps=0)
    course = Course()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHBOX_TEST_NOTES", str(notes))
        run = SuiteRun(load_suite(path), folder, folder / "out", device="cpu", resume=False, force=False)
        with run:
            for event in run.events():
                if isinstance(event, Started):
                    name = factory_of(event.case.model)
                    course.events.append(("started", name, event.attempt))
                elif isinstance(event, AttemptResult):
                    course.events.append(("ended", name, event.attempt))
                    noted = [int(pid) for note in notes.iterdir() for pid in note.read_text().split()]
                    if not all_end(noted):
                        course.leftovers[name] = noted
            course.report = report_of_run(run)
            course.journal = journal_attempts(folder / "out")
    return course


@pytest.mark.parametrize("name", EXPECTED)
def test_the_case_ends_as_its_own_outcome_with_the_reason(course: Course, name: str) -> None:
    outcome, reason, stderr = EXPECTED[name]
    attempt = course.attempts(name)[0]
    assert (attempt.outcome, attempt.attempt) == (outcome, 0)
    assert reason in (attempt.reason or "")
    assert "\n" not in (attempt.reason or "")
    if stderr is not None:
        assert stderr in (attempt.stderr_tail or "")


@pytest.mark.parametrize("name", BAD)
def test_a_case_that_failed_is_not_tried_again(course: Course, name: str) -> None:
    assert len(course.attempts(name)) == 1
    assert course.events.count(("started", name, 1)) == 0


def test_the_suite_goes_on_after_every_failure(course: Course) -> None:
    for (kind, name, number), (next_kind, *what) in zip(course.events[::2], course.events[1::2], strict=True):
        assert (kind, next_kind) == ("started", "ended")
        assert (name, number) == tuple(what)
    assert {name for _, name, _ in course.events} == set(EXPECTED)
    last = course.events[-2 * len(GOOD) :]
    assert sorted(last) == sorted((kind, name, 1) for kind in ("started", "ended") for name in GOOD)


def test_no_process_of_an_attempt_outlives_it(course: Course) -> None:
    assert course.leftovers == {}


def test_what_a_terminal_would_obey_is_gone_from_stderr_and_reason(course: Course) -> None:
    (attempt,) = course.attempts("prints_to_a_terminal")
    assert attempt.stderr_tail is not None
    assert all(char.isprintable() or char in "\n\t" for char in attempt.stderr_tail)
    assert attempt.reason is not None
    assert attempt.reason.isprintable()
    assert "the last line" in attempt.reason


def test_every_attempt_is_in_the_journal_and_the_report_says_so(course: Course) -> None:
    assert course.report is not None
    assert course.report.complete
    assert len(course.journal) == len(EXPECTED) + len(GOOD)
    in_report = [attempt for case in course.report.cases for attempt in case.attempts]
    assert sorted(course.journal, key=repr) == sorted(in_report, key=repr)
    outcomes = {factory_of(case.case.model): case.outcome for case in course.report.cases}
    assert outcomes == {name: outcome for name, (outcome, *_) in EXPECTED.items()}
    summarized = [factory_of(c.case.model) for c in course.report.cases if c.summary is not None]
    assert sorted(summarized) == sorted(GOOD)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "good"])
def test_what_ends_in_a_pass_after_measuring_keeps_what_was_measured(course: Course, name: str) -> None:
    first, second = course.attempts(name)
    (rank,) = first.ranks
    assert rank.step_time_ns
    assert rank.phases is not None
    assert rank.flops is None
    assert rank.extra_passes_failed_reason == "the process was ended during its extra passes"
    assert first.overhead_s is None  # the unfinished pass would be in it
    assert (second.outcome, second.reason) == ("ok", None)
    assert second.overhead_s is not None
