"""The controller stays light when a report is as large as that of the full reference suite."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from benchbox.measure.journal import Journal
from benchbox.plan.suite import find_suite, load_suite
from benchbox.schema import SCHEMA_VERSION, Case, HostTelemetry, JournalHeader, JournalLine, RankResult
from tests.factories import make_attempt, make_device_samples, make_environment, make_rank

NUM_STEPS, STEP_NS = 2000, 5_000_000  # ten seconds a case, as the suite allows

SCRIPT = """
import sys
from pathlib import Path
import benchbox.cli, benchbox.measure.runner, benchbox.report.live  # as in a run
from benchbox.measure.journal import read_journal
from benchbox.report.build import build_report
from benchbox.report.files import write_report, write_text
from benchbox.report.markdown import render_markdown

folder = Path(sys.argv[1])
finished = read_journal(folder / "journal.jsonl")
header = finished.header
report = build_report(
    header.suite, header.environment, finished.attempts, None, complete=True,
    created_at="2026-01-05T12:00:00+00:00", telemetry_cost=None, controller_peak_rss_bytes=None,
)
write_report(report, folder / "report.json")
write_text(render_markdown(report), folder / "report.md")
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(len(finished.attempts), int(peak.split()[1]) * 1024)
"""


def synthetic_rank(rng: random.Random, number: int) -> RankResult:
    steps = [STEP_NS + rng.randrange(STEP_NS // 20) for _ in range(NUM_STEPS)]
    return make_rank(steps, start_at_ns=1_000_000_000 + 20_000_000_000 * number)


def synthetic_line(case: Case, attempt: int, rank: RankResult, rng: random.Random) -> JournalLine:
    """Ten samples a second in every column that a float may stand in."""
    device = make_device_samples(rank)
    columns = {
        name: tuple(100 * rng.random() for _ in device.sample_at_ns)
        for name in HostTelemetry.__struct_fields__
        if name.endswith("_pct")
    }
    host = HostTelemetry(sample_at_ns=device.sample_at_ns, **columns)
    return JournalLine(attempt=make_attempt(case, attempt, rank, devices=(device,), host=host))


def test_a_report_of_the_reference_suite_takes_less_than_120_mb(tmp_path: Path) -> None:
    suite, rng = load_suite(find_suite("reference")), random.Random(0)
    journal = Journal(tmp_path / "journal.jsonl")
    header = JournalHeader(schema_version=SCHEMA_VERSION, suite=suite, environment=make_environment())
    journal.start_anew(header)
    tries = [(case, number) for case in suite.cases for number in range(suite.measure.repetitions)]
    for place, (case, number) in enumerate(tries):
        journal.append(synthetic_line(case, number, synthetic_rank(rng, place), rng))
    journal.close()

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    num_attempts, peak_bytes = map(int, done.stdout.split())
    assert num_attempts == len(tries) > 200
    assert (tmp_path / "report.json").stat().st_size > 8_000_000
    assert peak_bytes < 120e6
