"""Sentences that terminal and Markdown share. Text from the report is cleaned, not escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from benchbox.report import figures
from benchbox.report.facts import device_name
from benchbox.report.text import clean, significant
from benchbox.schema import CaseResult, Environment, MeasureSettings, Report, TelemetryCost

# What every case of a run has a little more or less of, so that a line for each would say the same.
_SHARES = re.compile(r"\d+(?:\.\d+)?(?= (?:% of the telemetry samples|of \d+ attempts))")


def heading(report: Report) -> str:
    """``quick: 11 cases on NVIDIA H100 80GB HBM3``."""
    count = len(report.cases)
    cases = "1 case" if count == 1 else f"{count} cases"
    return clean(f"{report.suite.name}: {cases} on {device_name(report.environment)}", 160)


def environment_line(environment: Environment) -> str:
    """The versions and settings that explain most differences between two reports."""
    host, software = environment.host, environment.software
    parts = [f"torch {software.torch}", f"Python {software.python}"]
    if environment.device != "cpu":
        parts += [
            f"{name} {version}"
            for name, version in (
                ("CUDA", software.cuda),
                ("cuDNN", software.cudnn),
                ("driver", environment.driver),
            )
            if version is not None
        ]
    parts += [
        f"{host.cpu_model}, {host.num_usable_processors} processors, {software.num_threads} threads",
        f"{environment.host_allocator} host allocator",
        host.os,
    ]
    return clean(" · ".join(parts), 500)


TOO_NOISY_PCT = 20.0  # an interval wider than this says nothing of an effect that is below one percent


def telemetry_cost_line(
    cost: TelemetryCost | None, settings: MeasureSettings, labels: Mapping[str, str]
) -> str:
    """What watching cost, in plain words."""
    if cost is None:
        if settings.telemetry_hz == 0:
            return "Telemetry was off."
        return (
            "What telemetry costs was not measured in this run: it ended early, no case went well on one "
            "machine alone, or its steps are too long for turns."
        )
    interval = cost.effect_pct_interval
    if interval.high - interval.low > TOO_NOISY_PCT:
        return (
            f"What telemetry at {settings.telemetry_hz:g} Hz costs could not be told in the noise; "
            f"the sampler took {significant(cost.sampler_cpu_pct, 2)} % of one core."
        )
    return (
        f"Telemetry at {settings.telemetry_hz:g} Hz changes step time by {_signed(cost.effect_pct)} % "
        f"(95 %: {_signed(interval.low)} to {_signed(interval.high)} %) and takes "
        f"{significant(cost.sampler_cpu_pct, 2)} % of one core; measured on "
        f"{labels.get(cost.case_id, clean(cost.case_id, 40))} over {cost.num_steps_on:,} steps with it "
        f"and {cost.num_steps_off:,} without."
    )


def table_notes(report: Report, unknown: Sequence[str]) -> list[str]:
    """What stands below the table of figures; ``unknown`` are the columns that it lacks."""
    ranks = any(result.case.world_size > 1 and result.summary for result in report.cases)
    notes = {
        f"Unknown for every case and left out: {', '.join(unknown)}.": bool(unknown),
        figures.STAR: figures.rests_on_steps(report),
        figures.RANKS: ranks,
        figures.RANKS_OF_A_CPU: ranks and report.environment.device == "cpu" and _share_machines(report),
    }
    return [note for note, holds in notes.items() if holds]


def _share_machines(report: Report) -> bool:
    """Whether two ranks of a case ran on the same machine."""
    attempts = [attempt for result in report.cases for attempt in result.attempts]
    return any(len({rank.node for rank in attempt.ranks}) < len(attempt.ranks) for attempt in attempts)


def failed_cases(report: Report) -> list[CaseResult]:
    """The cases without a full result, in the suite's order."""
    return [case for case in report.cases if case.outcome != "ok"]


def reason_text(result: CaseResult) -> str:
    """Why a case did not end as ``ok``. Never empty: a reason may hold nothing that can be shown."""
    reason = clean(result.reason or "", 300)
    if reason:
        return reason
    return "its turn had not come" if result.outcome is None else "no reason was recorded"


def case_hints(report: Report, labels: Mapping[str, str]) -> list[str]:
    """Each hint once, with the cases that it concerns; shares that differ alone become a range."""
    concerned: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for result in report.cases:
        for hint in map(clean, result.hints):
            shares = concerned.setdefault(tuple(_SHARES.split(hint)), {})
            shares[labels[result.case.case_id]] = _SHARES.findall(hint)
    return [
        f"{_enumerate(list(shares), len(report.cases))}: {_with_ranges(words, list(shares.values()))}"
        for words, shares in concerned.items()
    ]


def _with_ranges(words: Sequence[str], shares: Sequence[Sequence[str]]) -> str:
    """``words`` with what stood between them in all of ``shares``: ``1 to 3``, or the one figure of all."""
    text = words[0]
    for figures_of_all, after in zip(zip(*shares, strict=True), words[1:], strict=True):
        least, most = min(figures_of_all, key=float), max(figures_of_all, key=float)
        text += (least if least == most else f"{least} to {most}") + after
    return text


def _enumerate(names: Sequence[str], num_cases: int) -> str:
    if len(names) == num_cases > 1:
        return "every case"
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
