"""The words and figures of a comparison, shared by all that shows one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchbox.analyze.compare import LEAST_FOR_SPEEDS
from benchbox.report.text import UNKNOWN, case_labels, clean, energy, memory, significant
from benchbox.schema import Case
from benchbox.schema.comparison import (
    BETTER,
    WORSE,
    CaseComparison,
    Comparison,
    IdentityDifference,
    Metric,
    MetricComparison,
)

METRIC_NAMES: dict[Metric, str] = {
    "samples_per_second": "throughput",
    "peak_memory_allocated_bytes": "peak memory",
    "peak_host_rss_bytes": "peak host memory",
    "joules_per_sample": "energy",
}
_ORDER = (*WORSE[::-1], "inconclusive", *BETTER[::-1], "same", "not-comparable")


def labels_of(comparison: Comparison) -> dict[str, str]:
    """A label for each case of the comparison, by its id."""
    cases: dict[str, Case] = {case.case_id: case for case in (*comparison.missing, *comparison.added)}
    cases |= {case.case.case_id: case.case for case in comparison.cases}
    return case_labels(list(cases.values()))


def other_metrics(cases: Sequence[CaseComparison]) -> list[Metric]:
    """The figures besides throughput that some case has, in the order in which tables show them."""
    return [m for m in METRIC_NAMES if any(x.metric == m for c in cases for x in c.metrics[1:])]


def worst_first(cases: Sequence[CaseComparison]) -> list[CaseComparison]:
    """What became worse, then what became better, then the rest; what no longer ends well, or does again,
    before what is slower or faster; within each as the report has them."""

    def rank(case: CaseComparison) -> tuple[int, int]:
        return 0 if case.is_worse() else 1 if case.is_better() else 2, _ORDER.index(case.verdict)

    return sorted(cases, key=rank)


def ratio_text(metric: MetricComparison) -> str:
    """``0.971``; unknown where the two are not compared."""
    return UNKNOWN if metric.ratio is None else _factor(metric.ratio)


def interval_text(metric: MetricComparison) -> str:
    """``0.966 to 0.976``; unknown where there is none, and unbounded where it says nothing."""
    interval = metric.ratio_interval
    if interval is None:
        return UNKNOWN
    if interval.high > 1e2 * interval.low:
        return "unbounded"
    return f"{_factor(interval.low)} to {_factor(interval.high)}"


def _factor(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= value < 1e3 else significant(value)


def value_text(metric: Metric, value: float | None) -> str:
    """With its unit, but for samples a second; unknown where it is not measured."""
    if value is None:
        return UNKNOWN
    if metric == "samples_per_second":
        return significant(value)
    return energy(value) if metric == "joules_per_sample" else memory(value)


def change_text(metric: MetricComparison) -> str:
    """``+1.2 % more``, the change and, unless it is ``same``, the verdict; that alone where one side lacks
    the figure."""
    if metric.ratio is None:
        return metric.verdict
    rounded_pct = round(100 * (metric.ratio - 1), 1) + 0.0  # nothing is not "-0.0"
    change = f"{rounded_pct:+,.1f} %"
    return change if metric.verdict == "same" else f"{change} {metric.verdict}"


def regression_sentence(case: CaseComparison) -> str:
    """``throughput slower: 2,243 -> 2,140, ratio 0.954 (…)``: all that became worse about a case."""
    parts = []
    if case.verdict == "regression":
        parts.append(f"regression: {case.reason or 'it does not end ok any more'}")
    parts += [
        f"{METRIC_NAMES[metric.metric]} {metric.verdict}: "
        f"{value_text(metric.metric, metric.base)} -> {value_text(metric.metric, metric.new)}, "
        f"ratio {ratio_text(metric)} ({interval_text(metric)})"
        for metric in case.metrics
        if metric.verdict in WORSE
    ]
    return clean("; ".join(parts))


def is_worse_elsewhere(case: CaseComparison) -> bool:
    """Whether only memory or energy became worse, so that the case's own verdict does not say it."""
    return case.is_worse() and case.verdict not in WORSE


def undecided_sentence(case: CaseComparison) -> str:
    """``inconclusive: the interval …``, or which other figure is too noisy to tell, and why."""
    if case.verdict == "inconclusive":
        return clean(f"inconclusive: {case.reason or ''}")
    unclear = [metric for metric in case.metrics if metric.verdict == "inconclusive"]
    return clean("; ".join(f"{METRIC_NAMES[m.metric]} inconclusive: {m.reason or ''}" for m in unclear))


def heading(comparison: Comparison) -> str:
    """Which reports, in one line."""
    base, new = comparison.base, comparison.new
    return clean(f"{base.name} ({base.created_at}) -> {new.name} ({new.created_at})")


def counts_sentence(comparison: Comparison) -> str:
    """``1 slower, 7 same; 1 added; 2 missing``."""
    counts = Counter(case.verdict for case in comparison.cases)
    parts = [f"{counts[verdict]} {verdict}" for verdict in _ORDER if counts[verdict]]
    for metric, word in METRIC_NAMES.items():
        if metric == "samples_per_second":  # the cases' own verdict
            continue
        for verdict in ("more", "less", "inconclusive"):
            number = sum(
                m.verdict == verdict for c in comparison.cases for m in c.metrics if m.metric == metric
            )
            if number:
                parts.append(f"{number} with {verdict} {word}")
    text = ", ".join(parts) or "no case in common"
    for cases, word in ((comparison.added, "added"), (comparison.missing, "missing")):
        if cases:
            text += f"; {len(cases)} {word}"
    return text


def not_compared(comparison: Comparison) -> list[str]:
    """``energy of 5 cases: not measured in the new report``: the figures that one side lacks, and why."""
    counts = Counter(
        (METRIC_NAMES[metric.metric], metric.reason)
        for case in comparison.cases
        for metric in case.metrics
        if metric.ratio is None
    )
    return [
        clean(f"{name} of {number} {'case' if number == 1 else 'cases'}: {reason or ''}")
        for (name, reason), number in counts.items()
    ]


def rule_sentence(comparison: Comparison) -> str:
    """By what rule the verdicts fell."""
    limits = comparison.thresholds
    # Rounds are looked at several times, with wider intervals at later looks.
    least, how = ("at least ", "round by round") if comparison.paired else ("", "over attempts")
    speeds = ""
    if not comparison.paired and _few_attempts(comparison):
        speeds = ", where attempts do not come in two speeds; five repetitions would tell those"
    return (
        f"{least}{comparison.confidence_pct:g} % intervals {how}, thresholds "
        f"{limits.throughput_pct:g} % throughput, {limits.memory_pct:g} % memory, "
        f"{limits.energy_pct:g} % energy; "
        f"false alarms in at most {comparison.false_alarm_pct:g} % of comparisons{speeds}"
    )


def _few_attempts(comparison: Comparison) -> bool:
    """Whether some case has fewer than five attempts a side; see
    :data:`benchbox.analyze.compare.LEAST_FOR_SPEEDS`."""
    return any(
        metric.num_base_attempts + metric.num_new_attempts < 2 * LEAST_FOR_SPEEDS
        for case in comparison.cases
        for metric in case.metrics
        if metric.ratio_interval is not None
    )


def difference_text(difference: IdentityDifference) -> str:
    """``driver: 580 -> 590``."""
    base, new = (UNKNOWN if v is None else v for v in (difference.base, difference.new))
    return clean(f"{difference.field}: {base} -> {new}", limit=200)


def forbidding(comparison: Comparison) -> list[IdentityDifference]:
    """The differences for which the reports, or some cases, are not comparable."""
    return [d for d in comparison.differences if d.across is not None and not d.lifted]


def lifted(comparison: Comparison) -> list[IdentityDifference]:
    """Those that the user has said are the point."""
    return [d for d in comparison.differences if d.lifted]


def only_told(comparison: Comparison) -> list[IdentityDifference]:
    """Those that forbid nothing."""
    return [d for d in comparison.differences if d.across is None]


def difference_notes(comparison: Comparison) -> list[str]:
    """``differs: driver: 580 -> 590``: all of them, a line each."""
    kinds = (
        ("differs", forbidding(comparison)),
        ("across", lifted(comparison)),
        ("also differs", only_told(comparison)),
    )
    return [f"{word}: {difference_text(d)}" for word, differences in kinds for d in differences]


def way_out(comparison: Comparison) -> str | None:
    """All to say so that the differences are the point; ``None`` where nothing forbids."""
    if not forbidding(comparison):
        return None
    names = dict.fromkeys(d.across for d in comparison.differences if d.across is not None)
    return " ".join(f"--across {clean(name)}" for name in names)
