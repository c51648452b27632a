"""In which order attempts run, and which need not run any more."""

from __future__ import annotations

import random

from benchbox.schema import AttemptResult, Case, Suite


def rounds(suite: Suite) -> list[list[Case]]:
    """One list of all cases for each repetition, shuffled anew from the suite's seed.

    Repetitions of one case are thus spread over the whole run, so that drift of the machine (clocks, heat,
    neighbours) falls on all cases alike: a randomized complete block design.
    """
    order = []
    for repetition in range(suite.measure.repetitions):
        cases = list(suite.cases)
        random.Random(f"{suite.order_seed}-{repetition}").shuffle(cases)  # noqa: S311 - an order, no secret
        order.append(cases)
    return order


class Settled:
    """The attempts that need not run any more: those that ended, and all of a case that failed once."""

    def __init__(self, suite: Suite) -> None:
        self._repetitions = suite.measure.repetitions
        self._num_attempts = len(suite.cases) * self._repetitions
        self._settled: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._settled)

    def __contains__(self, attempt: tuple[str, int]) -> bool:
        """Whether the attempt (a case's id and the number of the repetition) is settled."""
        return attempt in self._settled

    def add(self, attempt: AttemptResult) -> None:
        """Count an attempt that has ended, well or not."""
        numbers = (attempt.attempt,) if attempt.outcome == "ok" else range(self._repetitions)
        self._settled.update((attempt.case_id, number) for number in numbers)

    def is_all(self) -> bool:
        """Whether no attempt of the suite is left to run."""
        return len(self) == self._num_attempts
