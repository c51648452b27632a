"""What a reader should know before trusting a figure, in a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.analyze.ranks import own_work_ns, steps_that_differ
from benchbox.report.facts import device_name, loss_check, mean_step_ns, rank_results
from benchbox.report.text import clean, duration, percent
from benchbox.schema import (
    PASSES_CUT_SHORT,
    SLOWING_REASONS_MASK,
    THROTTLE_REASONS,
    AttemptResult,
    CaseResult,
    RankResult,
    Report,
)

# Of all processors; the sampler and housekeeping stay below the first. Few words for many figures, so that
# cases which were disturbed alike share a line.
DISTURBED_PCT = (5, 10, 20, 50)


def case_hints(result: CaseResult) -> tuple[str, ...]:
    """What may explain or weaken the figures of one case."""
    hints = [
        *_straggler_hints(result),
        _communication_hint(result),
        _warmup_hint(result.attempts),
        _throttle_hint(result),
        _foreign_hint(result),
        _interference_hint(result.attempts),
        _loss_hint(result),
        _flops_hint(result.attempts),
        _failed_passes_hint(result.attempts),
        _ended_early_hint(result.attempts),
    ]
    return tuple(hint for hint in hints if hint is not None)


def report_hints(report: Report) -> tuple[str, ...]:
    """What concerns the whole report."""
    hints = []
    if not report.complete:
        num_finished = sum(case.outcome is not None for case in report.cases)
        hints.append(
            f"The run was ended early: {num_finished} of {len(report.cases)} cases are finished; "
            "`benchbox run` with --resume goes on from there."
        )
    if report.hardware_profile is None:
        hints.append(
            f"No hardware profile matches {clean(device_name(report.environment), 80)}, so MFU is unknown: "
            "`benchbox hw init` measures this device and writes one."
        )
    unwatched = report.environment.telemetry_unavailable_reason
    if unwatched is not None:
        hints.append(f"The device's power, clocks and use are unknown: {clean(unwatched)}.")
    return tuple(hints)


def _straggler_hints(result: CaseResult) -> list[str]:
    if result.summary is None or not result.summary.straggler_ranks:
        return []
    own_work, ranks = own_work_ns(result.attempts), rank_results(result)
    if own_work:
        times: dict[int, float] = dict(own_work)
        what, wait = "its own work takes", ", and the others wait for it"
    else:
        times = {number: mean_step_ns(of_rank) for number, of_rank in ranks.items()}
        what, wait = "its steps take", ""
    middle = sorted(times.values())[(len(times) - 1) // 2]
    return [
        f"rank {number} is a straggler ({_whereabouts(ranks[number][0])}): {what} {duration(times[number])}, "
        f"the middle rank's {duration(middle)}{wait}"
        for number in result.summary.straggler_ranks
        if number in times and number in ranks
    ]


def _whereabouts(rank: RankResult) -> str:
    node = f"node {rank.node}"
    return f"{node}, {clean(rank.device_uuid, 60)}" if rank.device_uuid else node


def _communication_hint(result: CaseResult) -> str | None:
    found = (
        None if result.summary is None else steps_that_differ(result.attempts, result.summary.slowest_rank)
    )
    if found is None:
        return None
    return (
        f"in the communication pass a step took {duration(found.in_pass_ns)}, as measured "
        f"{duration(found.measured_ns)}: its share and its rate are of different steps"
    )


def _warmup_hint(attempts: Sequence[AttemptResult]) -> str | None:
    ended = [[rank.warmup_end for rank in a.ranks if rank.warmup_end is not None] for a in attempts]
    capped = [ends for ends in ended if any(end != "settled" for end in ends)]
    if not capped:
        return None
    caps = " and ".join(dict.fromkeys(end for ends in capped for end in ends if end != "settled"))
    share = f"{len(capped)} of {sum(map(bool, ended))} attempts"
    return f"step times had not settled when warm-up ended at its {caps} ({share})"


def _throttle_hint(result: CaseResult) -> str | None:
    if result.summary is None or not result.summary.throttled_samples_pct:
        return None
    seen = 0
    for attempt in result.attempts:
        for device in attempt.devices:
            for mask in device.throttle_reasons or ():
                seen |= mask or 0
    names = [name for name, bit in THROTTLE_REASONS.items() if bit & seen & SLOWING_REASONS_MASK]
    share = percent(result.summary.throttled_samples_pct)
    return f"the device held its clocks back in {share} of the telemetry samples ({', '.join(names)})"


def _foreign_hint(result: CaseResult) -> str | None:
    if result.summary is None or not result.summary.foreign_process_seen:
        return None
    return "another process was on the device while steps were being measured"


def _interference_hint(attempts: Sequence[AttemptResult]) -> str | None:
    usages = [[rank.host_usage for rank in a.ranks if rank.host_usage is not None] for a in attempts]
    known = [[u.other_cpu_pct for u in ranks if u.other_cpu_pct is not None] for ranks in usages]
    shares = [max(ranks) for ranks in known if ranks]
    disturbed = [share for share in shares if share > DISTURBED_PCT[0]]
    if not disturbed:
        return None
    passed = max(limit for limit in DISTURBED_PCT if limit < max(disturbed))
    return (
        f"other processes used more than {passed} % of the processors while it was measured "
        f"({len(disturbed)} of {len(shares)} attempts), so its times say less"
    )


def _loss_hint(result: CaseResult) -> str | None:
    check = loss_check(result)
    if check is None or check.agrees_with_fp32 is not None:
        return None
    return f"whether its losses agree with fp32 is unknown: {clean(check.reason or 'no reason given')}"


def _flops_hint(attempts: Sequence[AttemptResult]) -> str | None:
    reasons = [rank.flops_unknown_reason for a in attempts for rank in a.ranks if rank.flops_unknown_reason]
    return f"its FLOPs are unknown: {clean(reasons[0])}" if reasons else None


def _failed_passes_hint(attempts: Sequence[AttemptResult]) -> str | None:
    reasons = [rank.extra_passes_failed_reason for a in attempts for rank in a.ranks]
    # How it was ended is the attempt's own reason.
    given = [reason for reason in reasons if reason not in (None, PASSES_CUT_SHORT)]
    return f"the passes after measuring failed: {clean(given[0])}" if given else None


def _ended_early_hint(attempts: Sequence[AttemptResult]) -> str | None:
    """An attempt that is ``ok`` and yet has a reason: its telemetry or its passes after measuring ended
    early."""
    reasons = [attempt.reason for attempt in attempts if attempt.outcome == "ok" and attempt.reason]
    return clean(reasons[0]) if reasons else None
