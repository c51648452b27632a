"""``benchbox run SUITE --versus OTHER``: two environments in one job, by turns, until it is decided."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchbox.cli.compare import Format
from benchbox.errors import BadInputError, WouldOverwriteError

if TYPE_CHECKING:
    from rich.console import Console

    from benchbox.analyze.sequential import Looks
    from benchbox.measure.versus import SideName, VersusRun
    from benchbox.schema import Report, Suite
    from benchbox.schema.comparison import Comparison, Thresholds

COMPARISON_NAME = "comparison.json"


class VersusOptions(NamedTuple):
    """What the user said besides the suite."""

    other: Path
    folder: Path
    device: str
    thresholds: Thresholds
    max_minutes: float
    strict: bool
    force: bool
    quiet: bool
    output_format: Format


def run_versus(suite: Suite, suite_dir: Path, options: VersusOptions, console: Console) -> int:
    """Measure OTHER as the base and this environment as the new side; the comparison's exit code.

    Writes both reports and ``comparison.json`` under the folder, after Ctrl-C too.
    """
    from benchbox.analyze.identity import GROUPS
    from benchbox.analyze.sequential import Looks
    from benchbox.cli.compare import exit_code, show_comparisons
    from benchbox.measure.other_side import Surroundings, other_side
    from benchbox.measure.versus import VersusRun
    from benchbox.report.comparison_files import render_comparison_json
    from benchbox.report.files import write_text

    looks = Looks(options.thresholds, frozenset(GROUPS))
    if not 0 < options.max_minutes < 1e6:
        raise BadInputError(f"--max-minutes: {options.max_minutes:g} is not a number of minutes above 0")
    if options.output_format != "terminal":  # standard output is the comparison's
        console = _standard_error()
    own = Surroundings(sys.executable, {}, (str(suite_dir.absolute()), str(Path.cwd())))
    with other_side(options.other, suite.cases, suite_dir) as other:
        _make_folders(options)
        run = VersusRun(
            suite,
            suite_dir,
            options.folder,
            device=options.device,
            surroundings={"base": other, "new": own},
        )
        with run:
            _remove_former(options)
            interrupted = _follow(run, looks, options, console)
            comparison = _look(run, looks, options, write=True)
    write_text(render_comparison_json([comparison]), options.folder / COMPARISON_NAME)
    if options.output_format != "terminal" or not options.quiet:
        show_comparisons([comparison], options.output_format, strict=options.strict)
    if not options.quiet:
        told = f"written: {options.folder}: base/report.json, new/report.json and {COMPARISON_NAME}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    if interrupted:
        print("benchbox: interrupted; the comparison is of what was measured", file=sys.stderr)
        return 130
    return exit_code([comparison], strict=options.strict)


def _standard_error() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _follow(run: VersusRun, looks: Looks, options: VersusOptions, console: Console) -> bool:
    """Run until all is decided, the time is spent, or Ctrl-C; whether it was interrupted."""
    from benchbox.cli.run import ignore_interrupts
    from benchbox.report.live import open_display

    def undecided() -> list[str]:
        _look(run, looks, options, write=False)
        return looks.undecided()

    events = run.events(undecided, 60 * options.max_minutes)
    with contextlib.closing(events):
        try:
            with open_display(console, run.suite, quiet=options.quiet) as display:
                for _, event in events:
                    display.show(event)
        except KeyboardInterrupt:
            return True
        finally:
            ignore_interrupts()
    return False


def _look(run: VersusRun, looks: Looks, options: VersusOptions, *, write: bool) -> Comparison:
    """The comparison of what there is; ``write``: and both reports as files."""
    from benchbox.analyze.matching import side_of
    from benchbox.measure.folder import REPORT_NAME, SUMMARY_NAME
    from benchbox.measure.versus import SIDES
    from benchbox.report.files import write_report, write_text
    from benchbox.report.markdown import render_markdown

    sides = []
    for side in SIDES:
        report = _report(run, side)
        name = str(options.other) if side == "base" else "this environment"
        sides.append(side_of(name, report))
        if write:
            write_report(report, options.folder / side / REPORT_NAME)
            write_text(render_markdown(report), options.folder / side / SUMMARY_NAME)
    return looks.look(*sides)


def _report(run: VersusRun, side: SideName) -> Report:
    from collections import Counter

    from benchbox.report.build import build_report

    attempts = run.attempts[side]
    numbers = Counter(attempt.case_id for attempt in attempts)
    failed = {attempt.case_id for attempt in attempts if attempt.outcome != "ok"}
    wanted = run.suite.measure.repetitions
    site = run.sites[side]
    return build_report(
        run.suite,
        site.environment,
        attempts,
        site.hardware_profile(),
        complete=all(numbers[c.case_id] >= wanted or c.case_id in failed for c in run.suite.cases),
        created_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        telemetry_cost=None,
        controller_peak_rss_bytes=None,
    )


def _make_folders(options: VersusOptions) -> None:
    from benchbox.measure.folder import refuse_to_overwrite
    from benchbox.measure.versus import SIDES

    existing = options.folder / COMPARISON_NAME
    if existing.exists() and not options.force:
        raise WouldOverwriteError(f"{existing}: exists; start anew with --force, or choose another --out")
    for side in SIDES:
        refuse_to_overwrite(options.folder / side, resume=False, force=options.force, can_resume=False)
        try:
            (options.folder / side).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"--out: {options.folder / side}: {error.strerror or error}") from None


def _remove_former(options: VersusOptions) -> None:
    """Remove what a run before has left, so that a killed one leaves no verdict that is not its own."""
    from benchbox.measure.folder import remove_reports
    from benchbox.measure.versus import SIDES

    (options.folder / COMPARISON_NAME).unlink(missing_ok=True)
    for side in SIDES:
        remove_reports(options.folder / side)
