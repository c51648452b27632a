"""Grade the predictor on a table: which rows count, and what errors its predictions make."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from benchbox.analyze.predict_groups import (
    MAX_CELL_RATIO,
    UsableRow,
    split_contradicting,
    split_outdone,
)
from benchbox.analyze.predict_rates import DeviceRates, RatePrecision, device_rates
from benchbox.analyze.predict_table import predict_table
from benchbox.errors import BadInputError
from benchbox.plan.device_names import match_device_name
from benchbox.plan.hardware import alike_names
from benchbox.schema import (
    GradedPair,
    GradeFigures,
    GradeGroup,
    GradeResult,
    HardwareProfile,
    LeftOut,
    ThroughputRow,
)
from benchbox.stats import median, percentile

CONTRADICTING = f"rows of one device, batch and precision differ by more than a factor of {MAX_CELL_RATIO:g}"
OUTDONE = "fewer of the same device did as much or more"

_PRECISION_WORDS: dict[str, RatePrecision | Literal["mixed"]] = {
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "mixed": "mixed",
    "amp": "mixed",
    "tf32": "tf32",
    "fp32": "fp32",
    "float32": "fp32",
}
_NOT_BEFORE = ("no", "not", "non", "without")
_NOT_AFTER = ("off", "not", "disabled", "false")


def read_precision(wording: str) -> tuple[str, RatePrecision | None]:
    """What a table's wording of a precision means for the matrix units, or in words why it is not graded.

    ``mixed`` and ``amp`` alone mean fp16. ``fp32/tf32-default`` is what frameworks do unless told otherwise:
    tf32 where the device has it. ``fp32`` alone is taken at its word. A word counts whole, and not where the
    one before or behind it denies it; words that contradict each other state nothing.
    """
    text = wording.casefold()
    if any(word in text for word in ("fp8", "fp4", "int8")):
        return "the precision is narrower than 16 bits", None
    found = None if "?" in text else _meant(re.findall(r"[a-z0-9]+", text))
    return ("the precision is not stated", None) if found is None else ("", found)


def _meant(words: Sequence[str]) -> RatePrecision | None:
    said = {
        _PRECISION_WORDS[word]
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False)
        if word in _PRECISION_WORDS and before not in _NOT_BEFORE and after not in _NOT_AFTER
    }
    if not said and "single" in words:  # else it may be a single device
        return "fp32"
    narrow, wide = said & {"bf16", "fp16"}, said & {"fp32", "tf32"}
    if narrow:
        # Mixed precision leaves the rest in a wider one; without that word both are said of the whole.
        contradict = len(narrow) > 1 or (wide and "mixed" not in said)
        return None if contradict else "bf16" if "bf16" in said else "fp16"
    if "mixed" in said:
        return None if "fp32" in said else "fp16"
    return "tf32" if "tf32" in said else "fp32" if "fp32" in said else None


def grade(
    table: str,
    rows: Sequence[ThroughputRow],
    left_out: Sequence[LeftOut],
    profiles: Sequence[HardwareProfile],
) -> GradeResult:
    """Foretell every row of ``rows`` from every other device.

    Raises:
        BadInputError: no pair can be made; the text says why most of them cannot.
    """
    usable, unusable = _usable(rows, profiles)
    usable, contradicting = split_contradicting(usable)
    usable, outdone = split_outdone(usable)
    for reason, found in ((CONTRADICTING, contradicting), (OUTDONE, outdone)):
        if found:
            first = found[0].row
            example = f"{first.model}, {first.precision} on {first.num_devices} x {first.gpu}"
            unusable.append(LeftOut(reason=reason, num=len(found), example=example))
    pairs, refused = predict_table(usable)
    if not pairs:
        raise BadInputError(
            f"{table}: nothing to grade: {_why_nothing(usable, [*left_out, *unusable], refused)}"
        )
    return GradeResult(
        table=table,
        num_rows=len(rows) + sum(entry.num for entry in left_out),
        num_rows_graded=len(usable),
        rows_left_out=(*left_out, *unusable),
        pairs_refused=tuple(refused),
        groups=tuple(_groups(pairs)),
        naive_peak_flops=_figures([(p.by_peak_flops / p.measured - 1, False) for p in pairs]),
        naive_bandwidth=_figures([(p.by_bandwidth / p.measured - 1, False) for p in pairs]),
        overall=figures_of(pairs),
        pairs=tuple(pairs),
    )


def _usable(
    rows: Sequence[ThroughputRow], profiles: Sequence[HardwareProfile]
) -> tuple[list[UsableRow], list[LeftOut]]:
    usable: list[UsableRow] = []
    names: dict[str, Counter[str]] = defaultdict(Counter)
    resolve = _resolver(profiles)
    for row in rows:
        found = resolve(row.gpu, row.precision)
        if isinstance(found, str):
            names[found][row.precision if "precision is" in found else row.gpu] += 1
        else:
            usable.append(UsableRow(row, *found))
    unusable = [
        LeftOut(reason=reason, num=counts.total(), example=_example(counts, reason, profiles))
        for reason, counts in sorted(names.items(), key=lambda item: -item[1].total())
    ]
    return usable, unusable


def _example(counts: Counter[str], reason: str, profiles: Sequence[HardwareProfile]) -> str:
    """The most frequent name, what it may mean, and how many others there are."""
    name = counts.most_common(1)[0][0]
    alike = alike_names(name, profiles) if "profile" in reason else []
    nearest = f", nearest: {' or '.join(alike)}" if alike else ""
    others = f"; {len(counts) - 1} other names" if len(counts) > 2 else ""
    return f"{name[:40]}{nearest}{others}"


def _why_nothing(usable: Sequence[UsableRow], unusable: Sequence[LeftOut], refused: Sequence[LeftOut]) -> str:
    if refused:
        most = refused[0]
        return f"{most.num} pairs refused: {most.reason} ({most.example}); would settle it: {most.settled_by}"
    alone = "no two devices with a hardware profile share a model, precision and software"
    if not unusable:
        return alone
    commonest = max(unusable, key=lambda entry: entry.num)
    lost = f"{commonest.num} rows left out: {commonest.reason} ({commonest.example})"
    others = sum(entry.num for entry in unusable) - commonest.num
    if others:
        lost += f"; {others} more for {len(unusable) - 1} other reason{'s' if len(unusable) > 2 else ''}"
    return f"{alone}; {lost}" if usable else lost


def figures_of(pairs: Iterable[GradedPair]) -> GradeFigures:
    """The errors of ``pairs``, of which there is at least one."""
    return _figures([(p.predicted / p.measured - 1, p.low <= p.measured <= p.high) for p in pairs])


def _figures(errors: Sequence[tuple[float, bool]]) -> GradeFigures:
    sizes = [100 * abs(error) for error, _ in errors]
    outside = [size for size, (_, held) in zip(sizes, errors, strict=True) if not held]
    return GradeFigures(
        num_pairs=len(errors),
        median_pct=median(sizes),
        p80_pct=percentile(sizes, 0.8),
        worst_pct=max(sizes),
        coverage_pct=100 * sum(held for _, held in errors) / len(errors),
        worst_unannounced_pct=max(outside, default=0.0),
    )


_GROUPINGS: tuple[tuple[str, Callable[[GradedPair], str]], ...] = (
    ("step", lambda pair: pair.kind),
    ("devices", lambda pair: "one device" if pair.num_devices == 1 else "several devices"),
    ("witnesses", lambda pair: f"{min(pair.num_witnesses, 4)}{' or more' if pair.num_witnesses > 3 else ''}"),
    ("precision", lambda pair: pair.precision),
    ("target", lambda pair: pair.target),
    ("model", lambda pair: pair.model),
    ("software", lambda pair: pair.software or "not stated"),
)


def _groups(pairs: Sequence[GradedPair]) -> Iterable[GradeGroup]:
    for grouped_by, name_of in _GROUPINGS:
        members: dict[str, list[GradedPair]] = defaultdict(list)
        for pair in pairs:
            members[name_of(pair)].append(pair)
        for name, group in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
            yield GradeGroup(grouped_by=grouped_by, name=name, figures=figures_of(group))


def _resolver(
    profiles: Sequence[HardwareProfile],
) -> Callable[[str, str], tuple[RatePrecision, DeviceRates] | str]:
    """Device and precision for a table's words; a table has few of them and repeats each many times."""
    known: dict[tuple[str, str], tuple[RatePrecision, DeviceRates] | str] = {}

    def resolve(gpu: str, wording: str) -> tuple[RatePrecision, DeviceRates] | str:
        key = (gpu, wording)
        if key not in known:
            known[key] = _resolve(gpu, wording, profiles)
        return known[key]

    return resolve


def _resolve(
    gpu: str, wording: str, profiles: Sequence[HardwareProfile]
) -> tuple[RatePrecision, DeviceRates] | str:
    profile = match_device_name(gpu, profiles)
    if isinstance(profile, str):
        return profile
    reason, precision = read_precision(wording)
    if precision is None:
        return reason
    rates = device_rates(profile, precision)
    return rates if isinstance(rates, str) else (precision, rates)
