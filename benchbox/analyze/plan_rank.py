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


class Pool(NamedTuple):
    """One entry a configuration."""

    time_s: Floats
    log_half: Floats
    """Of the 80 % interval, towards longer times and higher costs."""
    log_half_faster: Floats
    """The same towards shorter times and lower costs."""
    cost: Floats
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

    late, dear = (
        _missed(pool, pool.time_s, deadline_s),
        _missed(pool, pool.cost, budget),
    )
    if deadline_s is not None or budget is not None:
        may_not_fit = (pool.fits != 1).astype(np.int8)
        late, dear = np.maximum(late, may_not_fit), np.maximum(dear, may_not_fit)
    missed = (late + dear, np.maximum(late, dear))
    has_cost = not np.isnan(pool.cost).all()
    keys = (pool.time_s, pool.cost, *missed) if has_cost else (pool.time_s, *missed)
    # NaN sorts last, so what has no price comes after what has one.
    order = np.lexsort(keys)
    return [int(entry) for entry in order[:at_most]]


def front(pool: Pool) -> list[int]:
    """By rising time: the entries that no other one beats on time and cost together."""
    import numpy as np

    priced = np.flatnonzero(~np.isnan(pool.cost))
    order = priced[np.lexsort((pool.cost[priced], pool.time_s[priced]))]
    cost = pool.cost[order]
    before = np.concatenate(([np.inf], np.minimum.accumulate(cost)[:-1]))
    return [int(entry) for entry in order[cost < before]]


def safest(
    pool: Pool, values: Floats, limited: Floats | None = None, limit: float | None = math.inf
) -> int | None:
    """Where the far end of the interval of ``values``, times or costs of ``pool``, is smallest.

    Of what surely fits in memory, or of all where nothing does. With ``limited`` strictly of what surely fits
    and surely keeps ``limit`` there; ``None``: nothing does, or there is no limit.
    """
    import numpy as np

    if limit is None:
        return None
    stretch = np.exp(pool.log_half)
    ends, sure = values * stretch, pool.fits == 1
    if limited is not None:
        return smallest(np.where(sure & (limited * stretch <= limit), ends, np.nan))
    found = smallest(np.where(sure, ends, np.nan))
    return smallest(ends) if found is None else found


def smallest(values: Floats) -> int | None:
    """Where the smallest value is; ``None`` where all are ``NaN``."""
    import numpy as np

    return None if np.isnan(values).all() else int(np.nanargmin(values))


def _missed(pool: Pool, values: Floats, limit: float | None) -> Any:
    """0 surely kept, 1 maybe, 2 not or not known."""
    import numpy as np

    if limit is None:
        return np.zeros(len(values), dtype=np.int8)
    kept = values * np.exp(pool.log_half) <= limit
    maybe = values * np.exp(-pool.log_half_faster) <= limit
    return np.where(kept, 0, np.where(maybe, 1, 2)).astype(np.int8)
