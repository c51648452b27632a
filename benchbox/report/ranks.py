"""What Markdown shows of cases with ranks: scaling, communication, and the ranks themselves."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.analyze.ranks import all_reduce_ceilings, own_work_ns
from benchbox.report.facts import communication, mean_step_ns, rank_results
from benchbox.report.markdown_table import pipe_table
from benchbox.report.text import duration, memory, percent, share, significant
from benchbox.schema import CaseResult, Communication, Environment, Interval, RankResult, Report


def rank_sections(report: Report, labels: dict[str, str]) -> list[list[str]]:
    """Sections of Markdown lines; empty where no case had what they show."""
    launched = [result for result in report.cases if result.summary and result.case.strategy != "single"]
    return [
        _scaling(launched, labels),
        _communication(launched, labels),
        _ranks(launched, labels, report.environment),
    ]


def _scaling(results: Sequence[CaseResult], labels: dict[str, str]) -> list[str]:
    rows = []
    for result in results:
        scaling = result.scaling
        if scaling is not None and (scaling.weak_baseline_case_id or scaling.strong_baseline_case_id):
            rows.append(
                [
                    labels[result.case.case_id],
                    share(scaling.weak_efficiency),
                    _range(scaling.weak_efficiency_interval),
                    labels.get(scaling.weak_baseline_case_id or ""),
                    share(scaling.strong_efficiency),
                    _range(scaling.strong_efficiency_interval),
                    labels.get(scaling.strong_baseline_case_id or ""),
                ]
            )
    if not rows:
        return []
    return [
        "## Scaling",
        "",
        "The global rate over the number of devices, against one device in this report: with the same batch",
        "for each device (weak), and with the same global batch (strong).",
        "",
        *pipe_table(["case", "weak", "95 %", "against", "strong", "95 %", "against"], rows),
    ]


def _communication(results: Sequence[CaseResult], labels: dict[str, str]) -> list[str]:
    reached = {one.world_size: one.bytes_per_s for one in all_reduce_ceilings(results)}
    rows = []
    for result in results:
        of_slowest = communication(result)
        if of_slowest is not None:
            ceiling = reached.get(result.case.world_size)
            rows.append([labels[result.case.case_id], *_exposed(result, of_slowest, ceiling)])
    if not rows:
        return []
    titles = ["case", "bytes by", "of a step", "95 %", "with", "without", "bytes a step", "bandwidth"]
    titles += ["of all-reduce"]
    return [
        "## Communication",
        "",
        "Steps with collectives and without, by turns, in a pass of its own. The share is that of the",
        "slowest rank; what overlaps with arithmetic and what quicker ranks spend waiting is not in it. The",
        "bandwidth is the bytes that a rank must send over the exposed time, unless that may be none. It is",
        "held against what all-reduces alone reached among as many ranks; above 100 %, much is overlapped.",
        "",
        *pipe_table(titles, rows, num_text_columns=2),
        *(["", f"All-reduces alone reached {_reached(reached)}."] if reached else []),
    ]


def _reached(ceilings: dict[int, float]) -> str:
    rates = [f"{significant(rate / 1e9)} GB/s among {n} ranks" for n, rate in ceilings.items()]
    return ", ".join(rates)


def _exposed(result: CaseResult, of_slowest: Communication, ceiling: float | None) -> list[str | None]:
    summary = result.summary
    assert summary is not None
    bandwidth = summary.communication_bytes_per_s
    return [
        of_slowest.bytes_formula,
        share(summary.communication_share),
        _range(summary.communication_share_interval),
        duration(of_slowest.step_time_on_ns),
        duration(of_slowest.step_time_off_ns),
        memory(of_slowest.bytes_per_step),
        None if bandwidth is None else f"{significant(bandwidth / 1e9)} GB/s",
        None if bandwidth is None or ceiling is None else share(bandwidth / ceiling),
    ]


def _ranks(results: Sequence[CaseResult], labels: dict[str, str], environment: Environment) -> list[str]:
    rows = []
    for result in results:
        own_work = own_work_ns(result.attempts)
        for number, ranks in rank_results(result).items():
            rows.append(
                [
                    labels[result.case.case_id],
                    _name(result, number),
                    str(ranks[0].node),
                    _device(ranks[0], environment),
                    next((rank.optimizer for rank in ranks if rank.optimizer), None),
                    duration(mean_step_ns(ranks)),
                    duration(own_work[number]) if number in own_work else None,
                    _spread(result, number),
                    _peak_memory(ranks, environment),
                ]
            )
    if not rows:
        return []
    titles = ["case", "rank", "node", "device", "optimizer", "mean step", "own work"]
    titles += ["spread", "peak memory"]
    return [
        "## Ranks",
        "",
        "Ranks wait for each other, so their steps are nearly equal. What a rank itself has to do shows in",
        "its own work, the step without collectives. The spread stands beside the slowest rank: by how much",
        "its own work lasts longer than the quickest one's.",
        "",
        *pipe_table(titles, rows, num_text_columns=5),
    ]


def _spread(result: CaseResult, number: int) -> str | None:
    summary = result.summary
    if summary is None or summary.rank_spread_pct is None or summary.slowest_rank != number:
        return None
    return percent(summary.rank_spread_pct)


def _name(result: CaseResult, number: int) -> str:
    straggles = result.summary is not None and number in result.summary.straggler_ranks
    return f"{number} (straggler)" if straggles else str(number)


def _device(rank: RankResult, environment: Environment) -> str:
    if rank.device_uuid is None:
        return environment.device
    devices = {0: environment.devices} | {node.node: node.devices for node in environment.nodes}
    known = (device for device in devices.get(rank.node, ()) if device.uuid == rank.device_uuid)
    return next((f"GPU {device.index}" for device in known), rank.device_uuid)


def _peak_memory(ranks: Sequence[RankResult], environment: Environment) -> str | None:
    """Torch's account on a GPU, the process's on a CPU."""
    kind = "peak_host_rss_bytes" if environment.device == "cpu" else "peak_memory_allocated_bytes"
    peaks = [getattr(rank.memory, kind) for rank in ranks if rank.memory]
    known = [peak for peak in peaks if peak is not None]
    return memory(max(known)) if known else None


def _range(interval: Interval | None) -> str | None:
    return None if interval is None else f"{share(interval.low)} to {share(interval.high)}"
