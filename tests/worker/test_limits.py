"""Limits of a worker's memory."""

from __future__ import annotations

import resource

import pytest

from benchbox.worker.failures import classify
from benchbox.worker.limits import bound_memory


def test_a_limit_below_what_is_held_is_no_memory_and_says_how_much_there_must_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(MemoryError) as caught:
        bound_memory(2 << 20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    outcome, reason = classify(caught.value)
    assert outcome == "oom"
    assert "the limit of 2 MiB is below the " in reason
