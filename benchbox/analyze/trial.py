"""Predicted against measured gain of a suggestion that was tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchbox.schema import AttemptResult, Case, Interval, Suggestion, Trial
from benchbox.stats import mean, mean_interval


def judge_trial(
    original: Case,
    suggested: Case,
    suggestion: Suggestion,
    attempts: tuple[Sequence[AttemptResult], Sequence[AttemptResult]],
) -> Trial:
    """What the attempts of both sides say; the first of the one and the first of the other make a pair.

    Where the original fails, as one that memory is in the way of must, the suggested case's own end is what
    was asked for: it is in ``reason``, and its rate is given.
    """
    reason = _failure(attempts)
    rates = (_rates(original, attempts[0]), _rates(suggested, attempts[1]))
    pairs = list(zip(*rates, strict=False)) if reason is None else []
    logs = [math.log(after / before) for before, after in pairs]
    speedup = math.exp(mean(logs)) if logs else None
    low, high = mean_interval(logs, independent=True) if len(logs) > 1 else (-math.inf, math.inf)
    interval = Interval(low=math.exp(low), high=math.exp(min(high, 20.0))) if len(logs) > 1 else None
    return Trial(
        case_id=original.case_id,
        suggestion=suggestion,
        num_pairs=len(pairs),
        samples_per_second=_geometric([before for before, _ in pairs]),
        suggested_samples_per_second=_geometric([after for _, after in pairs] or rates[1]),
        speedup=speedup,
        speedup_interval=interval,
        as_predicted=_as_predicted(speedup, interval, suggestion.predicted_speedup),
        reason=reason,
    )


def _as_predicted(
    speedup: float | None, interval: Interval | None, predicted: Interval | None
) -> bool | None:
    """Whether the speed-up is within what was predicted; ``None`` where there is nothing to compare.

    ``None`` too where only its own interval reaches there: noise may be all that lies between.
    """
    if speedup is None or predicted is None:
        return None
    if predicted.low <= speedup <= predicted.high:
        return True
    reaches = interval is not None and interval.low <= predicted.high and predicted.low <= interval.high
    return None if reaches else False


def _rates(case: Case, attempts: Sequence[AttemptResult]) -> list[float]:
    """Samples a second of each attempt, by its slowest rank."""
    return [
        case.global_batch_size * 1e9 / max(mean(rank.step_time_ns) for rank in attempt.ranks)
        for attempt in attempts
        if attempt.outcome == "ok"
    ]


def _failure(attempts: tuple[Sequence[AttemptResult], Sequence[AttemptResult]]) -> str | None:
    ends = [
        f"{name} ended as {failed[0].outcome}: {failed[0].reason}"
        for name, side in zip(("the original", "the suggested case"), attempts, strict=True)
        if (failed := [attempt for attempt in side if attempt.outcome != "ok"])
    ]
    if len(ends) == 1 and attempts[1] and all(attempt.outcome == "ok" for attempt in attempts[1]):
        return f"the suggested case went well; {ends[0]}"
    if ends:
        return "; ".join(reversed(ends))
    return None if all(attempts) else "it was ended before both had run"


def _geometric(values: Sequence[float]) -> float | None:
    return math.exp(mean([math.log(value) for value in values])) if values else None
