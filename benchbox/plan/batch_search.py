"""Which batch sizes to try: doubling until one does not fit, then bisection."""

from __future__ import annotations

from benchbox.schema import SearchEnd

DEFAULT_PRECISION_PCT = 3.0


class Search:
    """Which batch size to try next, and what is known so far; every batch below one that fits fits."""

    def __init__(self, start: int, cap: int | None, precision_pct: float) -> None:
        self.largest: int | None = None
        self.smallest_failing: int | None = None
        self._start = start if cap is None else min(start, cap)
        self._cap = cap
        self._precision_pct = precision_pct

    def next(self) -> int | None:
        """The next batch size, ``None`` where the answer is found."""
        low, high = self.largest or 0, self.smallest_failing
        if high is None:
            doubled = 2 * low or self._start
            bounded = doubled if self._cap is None else min(doubled, self._cap)
            return bounded if bounded > low else None
        if high - low <= max(1, low * self._precision_pct / 100):
            return None
        if low == 0:
            return 1  # where the weights alone do not fit, that ends the search
        return (low + high) // 2

    def tell(self, batch_size: int, *, fits: bool) -> None:
        """Take in how a try went."""
        if fits:
            self.largest = max(batch_size, self.largest or 0)
        else:
            self.smallest_failing = min(batch_size, self.smallest_failing or batch_size)

    @property
    def end(self) -> SearchEnd:
        """What the search came to, once there is nothing left to try."""
        if self.largest is None:
            return "nothing-fits"
        return "cap" if self.smallest_failing is None else "precision"
