"""``pytest suites/``: each case of each suite file is a test, its measured step times pytest-benchmark's.

The selected cases of a suite run together, interleaved, when the first of its tests starts; each test then
replays its own step times through ``benchmark.pedantic`` with a clock that moves by each measured time, so
``--benchmark-json``, ``--benchmark-compare`` and autosave work on what was really measured. Reports of the
runs are kept where ``--benchbox-out`` says. With ``--benchbox-against`` a case that became worse than in that
report fails, by the verdicts of ``benchbox compare``.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchbox.analyze.matching import Side
    from benchbox.schema import Case, CaseResult, Report, Suite
    from benchbox.schema.comparison import CaseComparison


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add benchbox's own options."""
    group = parser.getgroup("benchbox")
    group.addoption(
        "--benchbox-device", default="auto", help="auto, cpu, cuda, or GPUs: cuda:0,cuda:1 or UUIDs"
    )
    group.addoption("--benchbox-against", default=None, help="report.json: fail what became worse")
    group.addoption(
        "--benchbox-threshold", type=float, help="smallest change that matters, in %%; default: 2"
    )
    group.addoption("--benchbox-memory-threshold", type=float, help="for peak memory; default: 5")
    group.addoption("--benchbox-energy-threshold", type=float, help="for joules per sample; default: 5")
    group.addoption("--benchbox-across", default=[], action="append", help="a field that may differ")
    group.addoption("--benchbox-out", default=None, help="folder to keep the reports in, one folder a suite")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Take TOML files that lie in a folder named ``suites``, or that were named on the command line."""
    if file_path.suffix != ".toml" or file_path.name == "pyproject.toml":
        return None
    # As pytest makes paths absolute: without "..", and without following links.
    named = {os.path.abspath(arg.partition("::")[0]) for arg in parent.config.args}  # noqa: PTH100
    if str(file_path) not in named and file_path.parent.name != "suites":
        return None
    collected: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
    return collected


class SuiteFile(pytest.Module):
    """A suite file; its tests are its cases."""

    def _getobj(self) -> types.ModuleType:
        return types.ModuleType(self.path.stem)

    def collect(self) -> Iterable[pytest.Item]:
        """One test a case, named by its label and id."""
        from benchbox.errors import BenchboxError
        from benchbox.plan.suite import load_suite
        from benchbox.report.text import case_label

        try:
            self.suite: Suite = load_suite(self.path)
        except BenchboxError as error:
            raise self.CollectError(str(error)) from None
        self.report: Report | None = None
        self.trouble: str | None = None
        self.comparisons: dict[str, CaseComparison] = {}
        for case in self.suite.cases:
            name = f"{case_label(case).replace(' ', '-')}-{case.case_id}"
            item: pytest.Function = pytest.Function.from_parent(self, name=name, callobj=_test_of(self, case))
            item.user_properties.append(("case_id", case.case_id))
            yield item

    def result_of(self, case: Case) -> tuple[CaseResult, Report]:
        """The case's result; the first call runs all selected cases of this suite."""
        from benchbox.errors import BenchboxError

        if self.report is None and self.trouble is None:
            try:
                self.report = self._run()
            except BenchboxError as error:
                self.trouble = str(error)
        if self.report is None:
            pytest.fail(f"{self.path.name} could not be run: {self.trouble}", pytrace=False)
        return next(c for c in self.report.cases if c.case.case_id == case.case_id), self.report

    def _run(self) -> Report:
        import tempfile

        import msgspec

        from benchbox.analyze.compare import thresholds_of
        from benchbox.analyze.identity import check_across
        from benchbox.errors import WouldOverwriteError
        from benchbox.measure.folder import REPORT_NAME
        from benchbox.measure.runner import SuiteRun
        from benchbox.report.files import write_report
        from benchbox.report.from_run import report_of_run

        self._refuse_parallel()
        selected = {
            value
            for item in self.session.items
            if item.getparent(SuiteFile) is self
            for key, value in item.user_properties
            if key == "case_id"
        }
        cases = tuple(case for case in self.suite.cases if case.case_id in selected)
        suite = msgspec.structs.replace(self.suite, cases=cases)
        option = self.config.getoption
        thresholds = thresholds_of(
            option("--benchbox-threshold"),
            option("--benchbox-memory-threshold"),
            option("--benchbox-energy-threshold"),
        )
        across = check_across(option("--benchbox-across"))
        base = self._base(across)  # first: one that cannot be used is not worth minutes of measuring
        kept = option("--benchbox-out")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(kept or scratch, suite.name)
            if folder.exists():
                raise WouldOverwriteError(f"{folder}: exists; remove it, or choose another --benchbox-out")
            device = option("--benchbox-device")
            with SuiteRun(suite, self.path.parent, folder, device=device, resume=False, force=False) as run:
                for _ in run.events():
                    pass
                report = report_of_run(run)
                write_report(report, folder / REPORT_NAME)
        if base is not None:
            from benchbox.analyze.matching import compare_sides, side_of

            found = compare_sides(base, side_of("this run", report), thresholds, across)
            self.comparisons = {case.case.case_id: case for case in found.cases}
        return report

    def _refuse_parallel(self) -> None:
        from benchbox.errors import BadInputError

        num_workers = getattr(self.config, "workerinput", {}).get("workercount", 1)
        if num_workers > 1:
            raise BadInputError(
                f"{num_workers} test processes at once would be in each other's times; run suites with -n 0"
            )

    def _base(self, across: frozenset[str]) -> Side | None:
        """What the report that ``--benchbox-against`` names says of its cases.

        It need not have any of this suite's, but some of some suite's that is run: else all tests would pass
        for want of anything to be worse than.
        """
        against = self.config.getoption("--benchbox-against")
        if against is None:
            return None
        from benchbox.analyze.matching import has_case_in_common, side_of
        from benchbox.errors import BadInputError
        from benchbox.report.files import read_report

        base = side_of(str(against), read_report(Path(against)))
        files = dict.fromkeys([self, *(item.getparent(SuiteFile) for item in self.session.items)])
        if any(file is not None and has_case_in_common(base, file.suite.cases, across) for file in files):
            return base
        raise BadInputError(f"--benchbox-against: {against}: has no case in common with the suites")


def _test_of(file: SuiteFile, case: Case) -> Callable[..., None]:
    clock = ReplayClock()

    @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")  # by a case that failed
    @pytest.mark.benchmark(group=file.path.stem, timer=clock.now, min_rounds=1)
    def test(benchmark: Any) -> None:
        from benchbox.report.pytest_benchmark import extra_info, measured_steps_ns

        result, report = file.result_of(case)
        if result.outcome in ("ok", "unsupported"):  # the others fail by themselves, with more to tell
            _fail_where_worse(file, case)
        if result.outcome == "unsupported":
            pytest.skip(f"unsupported: {result.reason}")
        if result.outcome != "ok":
            stderr = next((a.stderr_tail for a in result.attempts if a.stderr_tail), None) or ""
            pytest.fail(f"{result.outcome}: {result.reason}\n{stderr}", pytrace=False)
        steps_ns = measured_steps_ns(result)
        clock.load(steps_ns)
        benchmark.pedantic(clock.advance, rounds=len(steps_ns), iterations=1, warmup_rounds=0)
        benchmark.extra_info.update(extra_info(result, report))

    return test  # type: ignore[no-any-return]


def _fail_where_worse(file: SuiteFile, case: Case) -> None:
    """Cases that the base report lacks pass: there is nothing that they could be worse than."""
    from benchbox.report.comparison_text import regression_sentence

    comparison = file.comparisons.get(case.case_id)
    if comparison is None:
        return
    if comparison.verdict == "not-comparable":
        pytest.fail(f"not comparable with --benchbox-against: {comparison.reason}", pytrace=False)
    if comparison.is_worse():
        pytest.fail(regression_sentence(comparison), pytrace=False)


class ReplayClock:
    """A clock that stands still but for :meth:`advance`, which moves it by the next measured time."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._steps_ns: Iterator[int] = iter(())

    def load(self, steps_ns: Iterable[int]) -> None:
        """Set the times to replay."""
        self._steps_ns = iter(steps_ns)

    def now(self) -> float:
        """Seconds."""
        return self._now_s

    def advance(self) -> None:
        """Let one measured step pass."""
        self._now_s += next(self._steps_ns, 0) / 1e9
