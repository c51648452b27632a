"""A case with one of its axes changed, as a suggestion says."""

from __future__ import annotations

from typing import Any

import msgspec
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
    elif suggestion.axis not in _AXES:
        raise BadInputError(f"the suggestion `{suggestion.axis}` cannot be tried")
    try:
        changed = msgspec.convert(msgspec.to_builtins(replace(case, **changes)), Case)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the suggestion `{suggestion.axis}` cannot be tried: {error}") from None
    return replace(changed, case_id=case_id(changed)), settings


_AXES = (
    "precision",
    "per_device_batch_size",
    "gradient_checkpointing",
    "gradient_accumulation_steps",
    "memory_format",
    "compile",
    "strategy",
    "num_loader_workers",
)
