"""Reports of GPUs with given rates, for plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from benchbox.schema import CaseResult, Interval, Report
from tests.factories import make_case, make_report
from tests.tables import profile

_TEMPLATE = make_report()
_CASE = _TEMPLATE.cases[0]


def result(rate: float, half: float = 0.02, **changes: Any) -> CaseResult:
    """One ``ok`` case that ran at ``rate`` samples a second; ``power_w``, ``joules_per_sample`` and
    ``peak_bytes`` may be given."""
    power_w = changes.pop("power_w", 500.0)
    joules_per_sample = changes.pop("joules_per_sample", None)
    peak = changes.pop("peak_bytes", 20 * 2**30)
    rank_changes = {"phases": None} | changes.pop("rank", {})
    case = make_case(**changes)
    assert _CASE.summary is not None
    attempt = replace(
        _CASE.attempts[0],
        case_id=case.case_id,
        ranks=(replace(_CASE.attempts[0].ranks[0], **rank_changes),),
    )
    return CaseResult(
        case=case,
        outcome="ok",
        reason=None,
        attempts=(attempt,),
        summary=replace(
            _CASE.summary,
            samples_per_second=rate,
            samples_per_second_interval=Interval(low=rate * (1 - half), high=rate * (1 + half)),
            power_w=power_w,
            joules_per_sample=joules_per_sample,
            device_memory_used_bytes=peak,
            model_flops_per_step=None,
        ),
    )


def report(gpu: str, *results: CaseResult, **profile_changes: Any) -> Report:
    """A report of ``gpu`` with these cases."""
    own = replace(profile(gpu), **profile_changes)
    device = replace(_TEMPLATE.environment.devices[0], name=own.match_names[0])
    environment = replace(_TEMPLATE.environment, devices=(device,))
    return replace(_TEMPLATE, hardware_profile=own, environment=environment, cases=results)


def simple_report(
    gpu: str = "A100-SXM4-80GB", rates: Mapping[int, float] | None = None, **changes: Any
) -> Report:
    """Batches and rates of one configuration in bf16."""
    chosen = {32: 800.0, 64: 1000.0} if rates is None else rates
    fields = {"precision": "bf16", **changes}
    return report(gpu, *(result(r, per_device_batch_size=b, **fields) for b, r in chosen.items()))
