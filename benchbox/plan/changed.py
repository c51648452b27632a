"""A case with one of its axes changed, as a suggestion says."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from benchbox.errors import BadInputError
from benchbox.plan.suite import case_id
from benchbox.schema import Case, MeasureSettings, Suggestion


def apply_suggestion(
    case: Case, settings: MeasureSettings, suggestion: Suggestion
) -> tuple[Case, MeasureSettings]:
    """Case and settings that the suggestion means.

    Raises:
        BadInputError: it changes something that no case and no setting has, or to what it cannot be.
    """
    changes: dict[str, Any] = {suggestion.axis: suggestion.value}
    if suggestion.axis == "host_allocator" and suggestion.value in ("tuned", "system"):
        return case, replace(settings, **changes)
    if suggestion.axis == "data" and suggestion.value == "device":
        changes |= {"data_dir": None, "num_generated_images": None, "num_loader_workers": None}
    elif suggestion.axis == "world_size" and isinstance(suggestion.value, int) and suggestion.value > 1:
        changes["strategy"] = "ddp" if case.strategy == "single" else case.strategy
    elif suggestion.axis not in _AXES or type(suggestion.value) is not _AXES[suggestion.axis]:
        raise BadInputError(f"the suggestion `{suggestion.axis}` cannot be tried")
    changed = replace(case, **changes)
    return replace(changed, case_id=case_id(changed)), settings


_AXES: dict[str, type] = {
    "precision": str,
    "per_device_batch_size": int,
    "gradient_checkpointing": bool,
    "gradient_accumulation_steps": int,
    "memory_format": str,
    "compile": bool,
    "strategy": str,
    "num_loader_workers": int,
}
