"""What is printed while a suite runs, without a terminal."""

from __future__ import annotations

import io

from msgspec.structs import replace
from rich.console import Console

from benchbox.measure.attempt import unsupported
from benchbox.report.live import PlainLines
from benchbox.schema import AttemptResult, Case
from tests.factories import make_attempt, make_case, make_suite


def line_of(case: Case, attempt: AttemptResult) -> str:
    written = io.StringIO()
    with PlainLines(Console(file=written, width=200), make_suite([case])) as display:
        display.show(attempt)
    return written.getvalue().strip()


def test_a_finished_attempt_has_its_rate_and_how_long_it_took() -> None:
    case = make_case(strategy="ddp", world_size=2)
    line = line_of(case, replace(make_attempt(case, 1), duration_s=12.5))
    assert line.startswith("reference-cnn b32 fp32 ddp x2 #2  ok  ")
    assert "samples/s" in line
    assert line.endswith("  12.5 s")


def test_an_attempt_that_never_started_took_no_time() -> None:
    case = make_case(strategy="ddp", world_size=4)
    line = line_of(case, unsupported(case, 0, "needs 4 devices, this machine has 2"))
    assert line == "reference-cnn b32 fp32 ddp x4 #1  unsupported  needs 4 devices, this machine has 2"
