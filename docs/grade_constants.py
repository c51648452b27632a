"""How much the predictor's constants matter: python docs/grade_constants.py PUBLISHED.csv

Grades the table with each constant moved, one at a time. Then, for each device and for each model in turn,
takes the setting that does best on all pairs without it, and grades that setting on it alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchbox.analyze import predict_fit, predict_model, predict_table
from benchbox.analyze.grade import grade
from benchbox.plan.hardware import load_profiles
from benchbox.plan.throughput_table import read_throughput_table
from benchbox.schema import GradedPair
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


def main() -> None:
    """Print medians and 80th percentiles."""
    table, profiles = read_throughput_table(Path(sys.argv[1])), load_profiles([])
    errors: dict[str, Errors] = {}
    for name, changes in SETTINGS.items():
        with _changed(changes):
            result = grade("table", table.rows, (), profiles)
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
