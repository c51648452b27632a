"""The terms of a plan's figures, each worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.schema import AllReduceCeiling, Ceilings, Interval, Report
from tests.analyze.test_plan import run
from tests.plans import report, result, simple_report


def with_interval(num_attempts: int, stretch: float, basis: str = "attempts") -> Report:
    """An A100 at 1,000 samples a second, ``stretch`` times less and more by its 95 % interval."""
    one = result(1000.0, per_device_batch_size=64, precision="bf16")
    assert one.summary is not None
    interval = Interval(low=1000 / stretch, high=1000 * stretch)
    summary = replace(
        one.summary, samples_per_second_interval=interval, num_attempts=num_attempts, interval_basis=basis
    )
    return report("A100-SXM4-80GB", replace(one, summary=summary))


@pytest.mark.parametrize(
    ("num_attempts", "basis", "narrower"),
    [
        (2, "attempts", 3.0777 / 12.7062),  # Student's t, 10 % over 2.5 %, of one degree of freedom
        (3, "attempts", 1.8856 / 4.3027),
        (1, "steps", 1.2816 / 1.9600),
    ],
)
def test_a_measured_interval_is_of_eighty_per_cent(num_attempts: int, basis: str, narrower: float) -> None:
    source = with_interval(num_attempts, 2.0, basis)
    rate = run(source, targets=("A100-SXM4-80GB",)).configurations[0].samples_per_second
    assert rate.high == pytest.approx(1000 * 2**narrower, rel=1e-4)
    assert rate.low == pytest.approx(1000 / 2**narrower, rel=1e-4)


def test_of_two_reports_of_one_device_the_firsts_probe_counts() -> None:
    def probed(gb_per_s: float) -> Report:
        probe = AllReduceCeiling(world_size=4, bytes_per_s=gb_per_s * 1e9)
        return replace(simple_report(), ceilings=Ceilings(precisions=(), all_reduce=(probe,)))

    def planned(*reports: Report) -> Any:
        return run(*reports, targets=("A100-SXM4-80GB",), counts=(4,)).configurations

    assert planned(probed(100.0), probed(0.1)) == planned(probed(100.0))
    assert planned(probed(0.1), probed(100.0)) != planned(probed(100.0))
