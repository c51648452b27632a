"""In which order attempts run."""

from __future__ import annotations

import random

from benchbox.schema import Case, Suite


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
