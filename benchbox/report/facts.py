"""What a report says beyond its summaries, looked up in its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from benchbox.schema import AttemptResult, CaseResult, Environment, LossCheck, PhaseTimes, RankResult

T = TypeVar("T")

OutcomeWord = Literal["ok", "oom", "unsupported", "timeout", "crashed", "invalid", "not finished"]


def outcome_word(result: CaseResult) -> OutcomeWord:
    """The outcome, or ``not finished``."""
    return result.outcome or "not finished"


def phase_times(result: CaseResult) -> PhaseTimes | None:
    """Of the first rank that timed phases."""
    return next((rank.phases for rank in _ranks(result.attempts) if rank.phases), None)


def loss_check(result: CaseResult) -> LossCheck | None:
    """Of the first rank that compared losses."""
    return next((rank.loss_check for rank in _ranks(result.attempts) if rank.loss_check), None)


def warmup_ends(attempts: Sequence[AttemptResult]) -> list[str]:
    """How warm-up ended, each way once, in the order of attempts."""
    return _distinct([rank.warmup_end for rank in _ranks(attempts)])


def stop_reasons(attempts: Sequence[AttemptResult]) -> list[str]:
    """Why measuring stopped, each reason once, in the order of attempts."""
    return _distinct([rank.stop_reason for rank in _ranks(attempts)])


def device_name(environment: Environment) -> str:
    """What was trained on, in the driver's or the kernel's words."""
    names = _distinct([device.name for device in environment.devices])
    if not names:
        return environment.host.cpu_model
    count = len(environment.devices)
    return " + ".join(names) if count == 1 else f"{count} × {' + '.join(names)}"


def _ranks(attempts: Sequence[AttemptResult]) -> list[RankResult]:
    return [rank for attempt in attempts for rank in attempt.ranks]


def _distinct(values: Sequence[T | None]) -> list[T]:
    return list(dict.fromkeys(value for value in values if value is not None))
