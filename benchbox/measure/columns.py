"""Samples as growing columns, clipped to the measured windows at the end.

Numbers are kept as doubles, eight bytes each, with NaN for a reading that is missing: an hour at 50 Hz stays
below 30 MB. Integers up to 2**53 come back exactly, which holds for every count and byte that is sampled.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from benchbox.schema import Window

_NAN = math.nan


class Columns:
    """One array per name, all equally long. One thread may append while others read."""

    def __init__(self, names: Sequence[str], *, integers: Collection[str]) -> None:
        self._names = tuple(names)
        self._integers = frozenset(integers)
        self._sample_at_ns = array("q")
        self._values = tuple(array("d") for _ in self._names)

    def __len__(self) -> int:
        return len(self._sample_at_ns)

    def append(self, at_ns: int, values: Iterable[float | None]) -> None:
        """Add one sample: its monotonic time and one value per name, ``None`` for a missing one."""
        for column, value in zip(self._values, values, strict=True):
            column.append(_NAN if value is None else value)
        self._sample_at_ns.append(at_ns)  # last: readers count samples by it

    def last(self, name: str) -> float | None:
        """The newest reading of one column that is not missing."""
        column = self._values[self._names.index(name)]
        for position in range(len(self) - 1, -1, -1):
            if not math.isnan(column[position]):
                return column[position]
        return None

    def within(self, windows: Sequence[Window]) -> tuple[tuple[int, ...], dict[str, Any]]:
        """The samples taken within any of ``windows``, both ends included, in order and each once.

        Returns:
            Their times, and by name a tuple of values with ``None`` for a missing one, or ``None`` in place
            of a column in which every value is missing.
        """
        kept = list(self._positions(windows))
        times = tuple(self._sample_at_ns[position] for position in kept)
        columns: dict[str, Any] = {}
        for name, column in zip(self._names, self._values, strict=True):
            convert = int if name in self._integers else float
            values = tuple(None if math.isnan(column[at]) else convert(column[at]) for at in kept)
            columns[name] = values if any(value is not None for value in values) else None
        return times, columns

    def _positions(self, windows: Sequence[Window]) -> Iterable[int]:
        next_free = 0
        for window in sorted(windows, key=lambda window: window.start_at_ns):
            start = max(bisect_left(self._sample_at_ns, window.start_at_ns), next_free)
            end = bisect_right(self._sample_at_ns, window.end_at_ns)
            yield from range(start, end)
            next_free = max(next_free, end)
