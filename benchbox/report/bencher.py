"""Reports as Bencher Metric Format (bencher.dev): a JSON object of benchmarks, each of measures."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.errors import BadInputError
from benchbox.report.text import case_labels, clean, indented_json
from benchbox.schema import CaseSummary, Report

Metric = dict[str, float]


def render_bencher(reports: Sequence[Report]) -> str:
    """Every measured case: throughput, and what is known of memory and energy.

    Measures are named in Bencher's own way, with hyphens; ``throughput`` is one of its built-in ones.

    Raises:
        BadInputError: two reports have a case of the same name.
    """
    document: dict[str, dict[str, Metric]] = {}
    for report in reports:
        labels = case_labels([result.case for result in report.cases])
        for result in report.cases:
            if result.summary is None:
                continue
            name = f"{clean(report.suite.name)}/{labels[result.case.case_id]}"
            if name in document:
                raise BadInputError(f"--format bencher: {name!r} is in two reports; give one at a time")
            document[name] = _measures(result.summary)
    return indented_json(document, indent=2)


def _measures(summary: CaseSummary) -> dict[str, Metric]:
    rate: Metric = {"value": summary.samples_per_second}
    interval = summary.samples_per_second_interval
    if interval is not None:
        rate |= {"lower_value": interval.low, "upper_value": interval.high}
    measures = {"throughput": rate, "step-time-p50-ns": {"value": float(summary.step_time_p50_ns)}}
    others = {
        "peak-memory-allocated-bytes": summary.peak_memory_allocated_bytes,
        "peak-host-rss-bytes": summary.peak_host_rss_bytes,
        "joules-per-sample": summary.joules_per_sample,
    }
    return measures | {name: {"value": float(value)} for name, value in others.items() if value is not None}
