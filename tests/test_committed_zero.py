"""What the committed reports of the suite of parallel strategies say: what could run is well and agrees."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from benchbox.report.files import read_report

REPORTS = sorted(Path(__file__).parent.parent.glob("reports/*/zero/report.json"))


def test_there_is_one() -> None:
    assert REPORTS


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parts[-3])
def test_every_case_is_ok_or_unsupported_with_a_reason(path: Path) -> None:
    cases = read_report(path).cases
    assert {result.outcome for result in cases} <= {"ok", "unsupported"}
    for result in cases:
        assert result.outcome == "ok" or all(attempt.reason for attempt in result.attempts)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.parts[-3])
def test_strategies_on_one_global_batch_have_equal_losses_in_fp32(path: Path) -> None:
    digests: dict[tuple[int, int], dict[tuple[str, int], str]] = defaultdict(dict)
    for result in read_report(path).cases:
        case, attempts = result.case, result.attempts
        if result.outcome == "ok" and case.precision == "fp32":
            (check,) = {rank.loss_check for rank in attempts[0].ranks}
            assert check is not None
            assert check.agrees_with_fp32 is True
            same = (case.global_batch_size, case.per_device_batch_size)  # as many samples, in the same groups
            digests[same][case.strategy, case.world_size] = check.digest
    assert max(map(len, digests.values())) >= 7  # the strategies that need no compiler, and a single device
    for of_batch in digests.values():
        assert len(set(of_batch.values())) == 1, of_batch
