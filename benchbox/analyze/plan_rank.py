"""Rank all configurations by arrays; what is shown is made into records only afterwards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    Floats = Any


class Spread(NamedTuple):
    """Values and their 80 % intervals."""

    values: Floats
    log_above: Floats
    """How far the interval reaches up, towards longer times and higher costs."""
    log_below: Floats

    def ends(self) -> Floats:
        """The upper ones."""
        import numpy as np

        found: Floats = self.values * np.exp(self.log_above)
        return found


class Pool(NamedTuple):
    """One entry a configuration."""

    time_s: Spread
    cost: Spread
    """``NaN`` without a price."""
    fits: Floats
    """1 where it fits in memory, ``NaN`` where that is not known."""
    place: Any
    """Of the entry in whatever it came from."""


def best_first(pool: Pool, deadline_s: float | None, budget: float | None, at_most: int) -> list[int]:
    """Entries that keep deadline and budget surely, then maybe, then not; each by cost, then by time.

    What may keep both goes before what surely keeps one and breaks the other, and what may not fit in memory
    keeps nothing surely. Without prices by time alone.
    """
    import numpy as np

    late, dear = _missed(pool.time_s, deadline_s), _missed(pool.cost, budget)
    if deadline_s is not None or budget is not None:
        may_not_fit = (pool.fits != 1).astype(np.int8)
        late, dear = np.maximum(late, may_not_fit), np.maximum(dear, may_not_fit)
    missed = (late + dear, np.maximum(late, dear))
    time_s, cost = pool.time_s.values, pool.cost.values
    keys = (time_s, *missed) if np.isnan(cost).all() else (time_s, cost, *missed)
    # NaN sorts last, so what has no price comes after what has one.
    order = np.lexsort(keys)
    return [int(entry) for entry in order[:at_most]]


def front(pool: Pool) -> list[int]:
    """By rising time: the entries that no other one beats on time and cost together."""
    import numpy as np

    priced = np.flatnonzero(~np.isnan(pool.cost.values))
    order = priced[np.lexsort((pool.cost.values[priced], pool.time_s.values[priced]))]
    cost = pool.cost.values[order]
    before = np.concatenate(([np.inf], np.minimum.accumulate(cost)[:-1]))
    return [int(entry) for entry in order[cost < before]]


def safest(
    pool: Pool, wanted: Spread, limited: Spread | None = None, limit: float | None = math.inf
) -> int | None:
    """Where the far end of the interval of ``wanted``, times or costs of ``pool``, is smallest.

    Of what surely fits in memory, or of all where nothing does. With ``limited`` strictly of what surely fits
    and surely keeps ``limit`` there; ``None``: nothing does, or there is no limit.
    """
    import numpy as np

    if limit is None:
        return None
    ends, sure = wanted.ends(), pool.fits == 1
    if limited is not None:
        return smallest(np.where(sure & (limited.ends() <= limit), ends, np.nan))
    found = smallest(np.where(sure, ends, np.nan))
    return smallest(ends) if found is None else found


def smallest(values: Floats) -> int | None:
    """Where the smallest value is; ``None`` where all are ``NaN``."""
    import numpy as np

    return None if np.isnan(values).all() else int(np.nanargmin(values))


def _missed(spread: Spread, limit: float | None) -> Any:
    """0 surely kept, 1 maybe, 2 not or not known."""
    import numpy as np

    if limit is None:
        return np.zeros(len(spread.values), dtype=np.int8)
    kept = spread.ends() <= limit
    maybe = spread.values * np.exp(-spread.log_below) <= limit
    return np.where(kept, 0, np.where(maybe, 1, 2)).astype(np.int8)
