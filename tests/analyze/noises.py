"""Noise of the kinds that machines make, for simulations: step times of whole reports at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchbox.analyze.evidence import AttemptFigures, CaseEvidence
from benchbox.schema.comparison import Metric
from tests.factories import make_case

Array = NDArray[np.float64]
Level = Callable[[np.random.Generator, tuple[int, ...]], Array]
NUM_STEPS = 160
STEP_NOISE = 0.01
"""Of one step, as a share: what the noise within an attempt is scaled to."""


def steps_of_attempts(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Relative step times of attempts, the last axis being steps: each attempt mixes an autocorrelated part
    (AR(1), 0.8), heavy tails (Student's t, 3 degrees of freedom), two modes that it changes between, and a
    drift, scaled to 1 % in all."""
    full = (*shape, NUM_STEPS)
    correlated = np.empty(full)
    correlated[..., 0] = rng.normal(0, 1, shape)
    shocks = rng.normal(0, 0.6, full)
    for step in range(1, NUM_STEPS):
        correlated[..., step] = 0.8 * correlated[..., step - 1] + shocks[..., step]
    heavy = rng.standard_t(3, full) / np.sqrt(3)
    switches = np.cumsum(rng.random(full) < 0.02, axis=-1)
    modes = 2.0 * ((switches + rng.integers(0, 2, shape)[..., None]) % 2) - 1.0
    drift = rng.normal(0, 1, shape)[..., None] * np.linspace(-1.7, 1.7, NUM_STEPS)
    return 1 + STEP_NOISE * (correlated + heavy + modes + drift) / 2


def variance_of_mean(steps: Array) -> Array:
    """As :func:`benchbox.analyze.evidence.relative_variance_of_mean`, of all attempts at once."""
    batches = steps.reshape(*steps.shape[:-1], 8, NUM_STEPS // 8).sum(axis=-1)
    result: Array = batches.var(axis=-1, ddof=1) / 8 / batches.mean(axis=-1) ** 2
    return result


def level_none(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def level_normal(scale: float) -> Level:
    return lambda rng, shape: rng.normal(0, scale, shape)


def level_heavy(scale: float) -> Level:
    return lambda rng, shape: scale * rng.standard_t(2.5, shape) / np.sqrt(5)


def level_drift(scale: float) -> Level:
    """All cases of a report drift together over its repetitions."""

    def of(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        line = np.linspace(-1, 1, shape[-1])
        return scale * (rng.normal(0, 1, (shape[0], 1, 1)) * line + rng.normal(0, 0.5, shape))

    return of


def level_two_modes(scale: float) -> Level:
    """Three attempts in ten are slower as a whole."""
    return lambda rng, shape: scale * (2 * (rng.random(shape) < 0.3) + rng.normal(0, 0.4, shape))


def level_two_speeds(scale: float) -> Level:
    """Every other attempt is slower as a whole, by chance, and there is next to nothing between."""
    return lambda rng, shape: scale * (2 * (rng.random(shape) < 0.5) + rng.normal(0, 0.03, shape))


def level_two_speeds_once(scale: float) -> Level:
    """The same of the first case; the others are quiet."""

    def of(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        found = np.zeros(shape)
        found[:, 0] = level_two_speeds(scale)(rng, shape)[:, 0]
        return found

    return of


def level_wandering(scale: float) -> Level:
    """Neighbouring attempts of a case depend on each other (AR(1), 0.8)."""

    def of(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        found = np.empty(shape)
        found[..., 0] = rng.normal(0, 1, shape[:-1])
        for place in range(1, shape[-1]):
            found[..., place] = 0.8 * found[..., place - 1] + 0.6 * rng.normal(0, 1, shape[:-1])
        return scale * found

    return of


def level_unlike(scale: float) -> Level:
    """Cases differ in how noisy they are, by a factor of two either way."""
    return lambda rng, shape: scale * np.exp(rng.normal(0, 0.7, (*shape[:2], 1))) * rng.normal(0, 1, shape)


def reports(
    rng: np.random.Generator, num_reports: int, num_cases: int, repetitions: int, level: Level
) -> list[list[CaseEvidence]]:
    """So many reports of the same truth: one sample a second."""
    shape = (num_reports, num_cases, repetitions)
    steps = steps_of_attempts(rng, shape) * np.exp(-level(rng, shape))[..., None]
    rates = np.log(NUM_STEPS / steps.sum(axis=-1)).tolist()
    within = variance_of_mean(steps).tolist()
    cases = [make_case(seed=number) for number in range(num_cases)]
    return [
        [
            CaseEvidence(
                cases[c],
                "ok",
                None,
                tuple(AttemptFigures(a, rates[r][c][a], within[r][c][a], {}) for a in range(repetitions)),
            )
            for c in range(num_cases)
        ]
        for r in range(num_reports)
    ]


def slowed(report: list[CaseEvidence], percent: float, places: slice = slice(None)) -> list[CaseEvidence]:
    """``report`` with steps that take ``percent`` longer, in the cases at ``places``."""
    shift = float(np.log1p(percent / 100))
    chosen = set(range(len(report))[places])
    return [
        case._replace(attempts=tuple(a._replace(log_rate=a.log_rate - shift) for a in case.attempts))
        if number in chosen
        else case
        for number, case in enumerate(report)
    ]


def varying(
    rng: np.random.Generator, made: list[list[CaseEvidence]], figures: Mapping[Metric, float]
) -> list[list[CaseEvidence]]:
    """``made`` with these figures beside the rate, all of the same truth; attempts vary by so much."""

    def filled(case: CaseEvidence) -> CaseEvidence:
        attempts = tuple(
            a._replace(log_figures={name: rng.normal(0, scale) for name, scale in figures.items()})
            for a in case.attempts
        )
        return case._replace(attempts=attempts)

    return [[filled(case) for case in report] for report in made]


def grown(report: list[CaseEvidence], metric: Metric, percent: float) -> list[CaseEvidence]:
    """``report`` with a figure of its first case larger by ``percent``."""
    shift = float(np.log1p(percent / 100))
    first = report[0]
    attempts = tuple(
        a._replace(log_figures=a.log_figures | {metric: a.log_figures[metric] + shift})
        for a in first.attempts
    )
    return [first._replace(attempts=attempts), *report[1:]]
