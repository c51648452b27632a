"""Cases without their batch size: what the search for the largest batch runs through."""

from __future__ import annotations

import msgspec

from benchbox.plan.suite import case_id
from benchbox.schema import Case, Suite


def configurations(suite: Suite) -> tuple[Case, ...]:
    """One case for each set that differs in ``per_device_batch_size`` alone: the one with the smallest.

    In the order in which the suite first names them.
    """
    found: dict[Case, Case] = {}
    for case in suite.cases:
        alike = msgspec.structs.replace(case, case_id="", per_device_batch_size=1)
        known = found.get(alike)
        if known is None or case.per_device_batch_size < known.per_device_batch_size:
            found[alike] = case
    return tuple(found.values())


def with_batch_size(case: Case, per_device_batch_size: int) -> Case:
    """``case`` with another batch size, and the id that follows from it."""
    other = msgspec.structs.replace(case, per_device_batch_size=per_device_batch_size)
    return msgspec.structs.replace(other, case_id=case_id(other))
