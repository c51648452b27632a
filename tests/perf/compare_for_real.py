"""The same code against itself, and against itself with a deliberate slowdown, measured on this machine.

Usage: python -m tests.perf.compare_for_real FOLDER [--way reports|versus] [--pairs 20]

The suite is suites/ci.toml, its models taken from three checkouts: ``base``, ``same``, which is equal, and
``slow``, which takes 5 % longer. With ``reports`` each pair measures ``slow`` and ``same``, one after the
other, and compares each with the run of equal code before it; so there are 2 x pairs + 1 runs, and every run
of equal code but the last is the next one's base. With ``versus`` each pair is two runs of ``--versus``, by
turns with ``base``.

Prints a line a pair and at the end a table. What is there already is not measured again, so what was cut off
goes on. Exit code 1 if there was a false alarm, or a slowdown was not found in one of the cases.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import tomli_w

from benchbox.analyze.matching import compare_sides, side_of
from benchbox.report.files import read_report, write_text
from benchbox.schema.comparison import Comparison, Thresholds
from benchbox.stats import median, variance
from tests.runs import environment

Way = Literal["reports", "versus"]
ROOT = Path(__file__).parents[2]
SUITE = ROOT / "suites/ci.toml"
MODELS = Path(__file__).with_name("slowed_models.py")
SLOWED_PCT = {"base": 0.0, "same": 0.0, "slow": 5.0}
MAX_MINUTES = 5


class Pair(NamedTuple):
    """One comparison of each kind."""

    same: Comparison
    slow: Comparison


def suite_with_own_models(text: str) -> str:
    """The suite ``text`` with its models replaced by those of ``slowed_models.py``, all else as it is."""
    document = tomllib.loads(text)
    for cases in (document["workload"], *document.get("include", ())):
        cases.update(_own_model(cases))
        cases.pop("sizes", None)
    return tomli_w.dumps(document)


def _own_model(cases: dict[str, Any]) -> dict[str, Any]:
    match cases:
        case {"model": "small-cnn"}:
            return {"model": "slowed_models:cnn", "input_shape": [1, 28, 28], "num_classes": 10}
        case {"model": "mlp", "sizes": [784, 512, 10]}:
            return {"model": "slowed_models:mlp", "input_shape": [784], "num_classes": 10}
    raise SystemExit(f"{SUITE}: slowed_models.py has no model like {cases}")


def prepare(folder: Path) -> None:
    """Make the checkouts, or see that they are of this very suite and these models."""
    suite, models = (
        suite_with_own_models(SUITE.read_text(encoding="utf-8")),
        MODELS.read_text(encoding="utf-8"),
    )
    for name, slowed_pct in SLOWED_PCT.items():
        checkout = folder / name
        checkout.mkdir(parents=True, exist_ok=True)
        changed = models.replace("SLOWED_PCT = 0.0", f"SLOWED_PCT = {slowed_pct}")
        for path, text in ((checkout / "ci.toml", suite), (checkout / "slowed_models.py", changed)):
            if not path.exists():
                write_text(text, path)
            elif path.read_text(encoding="utf-8") != text:
                raise SystemExit(f"{path}: of another suite or other models; choose an empty folder")


def pairs_of_reports(folder: Path, num_pairs: int) -> Iterator[Pair]:
    """Two runs, one after the other, and ``benchbox compare``'s verdicts."""
    before = measured(folder, "same", "0")
    for number in range(1, num_pairs + 1):
        slow = measured(folder, "slow", str(number))
        again = measured(folder, "same", str(number))
        yield Pair(compared(before, again), compared(before, slow))
        before = again


def pairs_by_turns(folder: Path, num_pairs: int) -> Iterator[Pair]:
    """``benchbox run --versus``."""
    options = ("--versus", folder / "base", "--max-minutes", MAX_MINUTES)
    for number in range(1, num_pairs + 1):
        found = []
        for name in ("same", "slow"):
            out = folder / f"versus-{name}-{number}" / "comparison.json"
            if not is_whole(out):
                run(folder / name, out.parent, *options, allowed=(0, 1))
            (document,) = msgspec.json.decode(out.read_bytes())["comparisons"]
            found.append(msgspec.convert(document, Comparison))
        yield Pair(*found)


def is_whole(comparison: Path) -> bool:
    """Whether it is there, and of two runs that were not interrupted: those leave one too."""
    sides = [comparison.parent / name / "report.json" for name in ("base", "new")]
    return comparison.exists() and all(read_report(path).complete for path in sides)


def measured(folder: Path, checkout: str, number: str) -> Path:
    """The whole report of that run, measured now unless it is there."""
    out = folder / f"{checkout}-{number}"
    report = out / "report.json"
    if not report.exists() or not read_report(report).complete:
        run(folder / checkout, out, allowed=(0,))
    return report


def run(checkout: Path, out: Path, *options: object, allowed: tuple[int, ...]) -> None:
    """Run the suite in ``checkout``; what a run that was cut off left is thrown away."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchbox.cli", "run", "ci.toml", "-q", "--device", "cpu", "--out", out]
    done = subprocess.run(
        [*map(str, command), *map(str, options)],
        cwd=checkout,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in allowed:
        raise SystemExit(f"{out}: exit code {done.returncode}: {done.stderr}")


def compared(base: Path, new: Path) -> Comparison:
    """As ``benchbox compare`` does."""
    sides = [side_of(path.parent.name, read_report(path)) for path in (base, new)]
    return compare_sides(*sides, Thresholds())


def is_alarm(comparison: Comparison) -> bool:
    """Whether anything is said to have changed, for worse or better."""
    return any(case.is_worse() or case.is_better() for case in comparison.cases)


def is_found(comparison: Comparison) -> bool:
    """Whether the slowdown is found in every case."""
    return all(case.verdict == "slower" for case in comparison.cases)


def line_of(number: int, pair: Pair) -> str:
    """``3: same: 3 same, 0.998 to 1.004; slow: 3 slower, 0.948 to 0.953; load 0.31``."""
    parts = [f"{name}: {_verdicts([found])}, {_ratios(found)}" for name, found in pair._asdict().items()]
    return f"{number}: {'; '.join(parts)}; load {os.getloadavg()[0]:.2f}"


def table(way: Way, pairs: Sequence[Pair]) -> str:
    """For docs/compare.md."""
    lines = [
        "| measured | code | comparisons | all `slower` | any changed | cases |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    how = {"reports": "one run after the other", "versus": "by turns"}[way]
    for code, found in (("the same", [p.same for p in pairs]), ("5 % slower", [p.slow for p in pairs])):
        slower, changed = sum(map(is_found, found)), sum(map(is_alarm, found))
        lines.append(f"| {how} | {code} | {len(found)} | {slower} | {changed} | {_verdicts(found)} |")
    return "\n".join(lines)


def _verdicts(found: Sequence[Comparison]) -> str:
    """Of throughput; and how often memory became ``more``, which would fail a job too."""
    counts = Counter(case.verdict for comparison in found for case in comparison.cases)
    metrics = [m for comparison in found for case in comparison.cases for m in case.metrics]
    parts = [f"{number} {verdict}" for verdict, number in counts.most_common()]
    more = sum(metric.verdict == "more" for metric in metrics)
    return ", ".join(parts + ([f"{more} with more memory"] if more else []))


def _ratios(comparison: Comparison) -> str:
    ratios = [metric.ratio for case in comparison.cases for metric in case.metrics[:1]]
    return f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else "no ratio"


def noise_sentence(reports: Sequence[Path]) -> str:
    """How much attempts vary within a run, and whole runs among each other: what the verdicts rest on."""
    within: list[float] = []
    rates: dict[str, list[float]] = {}
    for path in reports:
        for evidence in side_of(path.parent.name, read_report(path)).evidence:
            logs = [attempt.log_rate for attempt in evidence.attempts]
            within.append(variance(logs))
            rates.setdefault(evidence.case.case_id, []).append(sum(logs) / len(logs))
    between = [variance(values) for values in rates.values() if len(values) > 1]
    text = f"attempts of a run vary by {100 * median(within) ** 0.5:.2g} % (middle of all cases)"
    return f"{text}, runs by {100 * median(between) ** 0.5:.2g} %" if between else text


def go(folder: Path, way: Way, num_pairs: int) -> list[Pair]:
    """Measure what lacks, print a line a pair and the table."""
    prepare(folder)
    made = (pairs_of_reports if way == "reports" else pairs_by_turns)(folder, num_pairs)
    pairs = []
    for number, pair in enumerate(made, 1):
        pairs.append(pair)
        print(line_of(number, pair), flush=True)
    print(f"\n{table(way, pairs)}")
    runs = "same-*/report.json" if way == "reports" else "versus-*/base/report.json"
    print(f"\n{noise_sentence(sorted(folder.glob(runs)))}", flush=True)
    return pairs


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--way", choices=["reports", "versus"], default="reports")
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    pairs = go(arguments.folder.absolute(), arguments.way, arguments.pairs)
    return int(any(is_alarm(pair.same) for pair in pairs) or not all(is_found(pair.slow) for pair in pairs))


if __name__ == "__main__":
    sys.exit(main())
