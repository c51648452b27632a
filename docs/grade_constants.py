"""How much the predictor's constants matter: python docs/grade_constants.py PUBLISHED.csv

Grades the table with eleven settings of what a prediction rests on. Then, for each device and for each model
in turn, takes the setting that does best on all pairs without it, and grades that setting on it alone. At the
end it moves every single number of the predictor down and up by a fifth, and takes the rows back that are
left out because fewer of the same device did as much or more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchbox.analyze import (
    grade,
    predict_fit,
    predict_groups,
    predict_interval,
    predict_model,
    predict_rates,
    predict_table,
)
from benchbox.plan.hardware import load_profiles
from benchbox.plan.throughput_table import read_throughput_table
from benchbox.schema import GradedPair, GradeFigures
from benchbox.stats import median, percentile

Errors = dict[tuple[Any, ...], float]


def _prior(compute: float, on_chip: float) -> dict[str, tuple[float, float]]:
    means = vars(predict_model)["_PRIOR_MEANS"]
    return {name: (a + compute, b + on_chip) for name, (a, b) in means.items()}


def _all_reduce(factor: float) -> dict[str, float]:
    return {family: factor * gigabytes for family, gigabytes in predict_model.ALL_REDUCE_GB.items()}


SETTINGS: dict[str, list[tuple[Any, str, Any]]] = {
    "as shipped": [],
    "less compute-bound": [(predict_model, "_PRIOR_MEANS", _prior(-0.5, 0))],
    "more compute-bound": [(predict_model, "_PRIOR_MEANS", _prior(0.5, 0))],
    "less on chip": [(predict_model, "_PRIOR_MEANS", _prior(0, -0.5))],
    "more on chip": [(predict_model, "_PRIOR_MEANS", _prior(0, 0.5))],
    "half the all-reduce": [(predict_model, "ALL_REDUCE_GB", _all_reduce(0.5))],
    "twice the all-reduce": [(predict_model, "ALL_REDUCE_GB", _all_reduce(2.0))],
    "witnesses within 5 %": [(predict_fit, "_WITNESS_SD", 0.05)],
    "witnesses within 10 %": [(predict_fit, "_WITNESS_SD", 0.10)],
    "batch power 0.05": [(predict_fit, "BATCH_POWER", 0.05), (predict_table, "BATCH_POWER", 0.05)],
    "batch power 0.15": [(predict_fit, "BATCH_POWER", 0.15), (predict_table, "BATCH_POWER", 0.15)],
}
MODULES = (predict_fit, predict_groups, predict_interval, predict_model, predict_rates, predict_table)


def main() -> None:
    """Print medians and 80th percentiles, and at the end coverage too."""
    table, profiles = read_throughput_table(Path(sys.argv[1])), load_profiles([])
    errors: dict[str, Errors] = {}
    for name, changes in SETTINGS.items():
        with _changed(changes):
            result = grade.grade("table", table.rows, (), profiles)
        errors[name] = {_key(pair): abs(pair.predicted / pair.measured - 1) for pair in result.pairs}
        _show(name, list(errors[name].values()))
    common = set.intersection(*(set(one) for one in errors.values()))
    _show(
        "each device left out of the choice",
        _left_out(errors, common, lambda key: key[1], lambda key: key[:2]),
    )
    _show(
        "each model left out of the choice",
        _left_out(errors, common, lambda key: key[2], lambda key: key[2:3]),
    )
    for name, value in _numbers().items():
        for factor in (0.8, 1.2):
            holders = [module for module in MODULES if name in vars(module)]
            with _changed([(module, name, factor * value) for module in holders]):
                told = grade.grade("table", table.rows, (), profiles).overall
            sys.stdout.write(f"{factor:g} x {name}: {_with_coverage(told)}\n")
    with _changed([(grade, "split_outdone", lambda rows: (list(rows), []))]):
        result = grade.grade("table", table.rows, (), profiles)
    told = result.overall
    beyond = sum(
        abs(p.predicted / p.measured - 1) > 0.6 and not p.low <= p.measured <= p.high for p in result.pairs
    )
    sys.stdout.write(
        f"with the rows that fewer devices outdid: {told.num_pairs} pairs, {_with_coverage(told)}, "
        f"worst {told.worst_pct:.1f} %, {beyond} off by more than 60 % and outside of their intervals\n"
    )


def _with_coverage(told: GradeFigures) -> str:
    return f"median {told.median_pct:.1f} % p80 {told.p80_pct:.1f} % coverage {told.coverage_pct:.1f} %"


def _numbers() -> dict[str, float]:
    """All constants that are one number with a fraction, by name."""
    held = {name: value for module in MODULES for name, value in vars(module).items() if name.isupper()}
    return {name: value for name, value in sorted(held.items()) if isinstance(value, float)}


def _left_out(
    errors: dict[str, Errors],
    common: set[tuple[Any, ...]],
    held: Callable[[tuple[Any, ...]], str],
    touches: Callable[[tuple[Any, ...]], tuple[str, ...]],
) -> list[float]:
    found = []
    for one in sorted({held(key) for key in common}):
        others = [key for key in common if one not in touches(key)]
        best = min(errors, key=lambda name: median([errors[name][key] for key in others]))
        found += [errors[best][key] for key in common if held(key) == one]
    return found


def _key(pair: GradedPair) -> tuple[Any, ...]:
    same = (pair.precision, pair.software, pair.workload, pair.num_devices, pair.batch_per_device)
    return (pair.source, pair.target, pair.model, *same)


def _show(name: str, sizes: list[float]) -> None:
    sys.stdout.write(f"{name}: median {100 * median(sizes):.1f} % p80 {100 * percentile(sizes, 0.8):.1f} %\n")


@contextmanager
def _changed(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(module, name, vars(module)[name]) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


if __name__ == "__main__":
    main()
