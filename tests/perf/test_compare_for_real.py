"""No false alarm on equal code, every slowdown of 5 % found: on this machine, with suites/ci.toml.

``COMPARE_PAIRS`` is how many comparisons of each kind (20), ``COMPARE_FOLDER`` where runs are kept, so that
what was cut off goes on. :mod:`tests.perf.compare_for_real` says what is measured.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.perf import compare_for_real as real

pytestmark = [pytest.mark.perf, pytest.mark.timeout(4 * 3600)]

NUM_PAIRS = int(os.environ.get("COMPARE_PAIRS", "20"))


@pytest.mark.parametrize("way", ["reports", "versus"])
def test_the_same_code_is_never_called_slower_and_five_percent_always(way: real.Way, tmp_path: Path) -> None:
    folder = Path(os.environ.get("COMPARE_FOLDER", tmp_path), way).absolute()
    pairs = real.go(folder, way, NUM_PAIRS)
    assert len(pairs) == NUM_PAIRS
    assert not any(real.is_alarm(pair.same) for pair in pairs)
    assert all(real.is_found(pair.slow) for pair in pairs)
