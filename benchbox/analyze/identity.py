"""Whether two reports may be compared at all: the facts that make a case fast or slow besides what is tested.

Facts fall into groups by what a user means with ``--across``: a new torch brings its CUDA and cuDNN, a new
device its memory and clocks. Facts that hardly touch speed are told where they differ, and forbid nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from benchbox.errors import BadInputError
from benchbox.schema import Case, Environment, MeasureSettings, NodeEnvironment
from benchbox.schema.comparison import IdentityDifference

GROUPS = (
    "device",
    "power_limit",
    "driver",
    "torch",
    "deepspeed",
    "cpu",
    "threads",
    "precision_flags",
    "host_allocator",
    "variables",
)
CASE_FIELDS = tuple(name for name in Case.__struct_fields__ if name != "case_id")
_ALIKE = (
    "input_shape",
    "num_classes",
    "hidden_size",
    "learning_rate",
    "seed",
    "data_dir",
    "num_generated_images",
    "num_loader_workers",
)
"""Fields of a case that two reports are not meant to differ in: they are no axes."""
_GPU_FIELDS: dict[str, str | None] = {
    "devices.name": "device",
    "devices.memory_total_bytes": "device",
    "devices.compute_capability": "device",
    "devices.num_multiprocessors": "device",
    "devices.mig_enabled": "device",
    "devices.ecc_enabled": "device",
    "devices.max_clock_sm_mhz": "device",
    "devices.max_clock_memory_mhz": "device",
    "devices.power_limit_w": "power_limit",
    "driver": "driver",
    "software.cuda": "torch",
    "software.cudnn": "torch",
    "software.nccl": "torch",
}
"""Field of an environment: the group that ``--across`` knows it by; ``None``: it is only told."""
_CPU_FIELDS: dict[str, str | None] = {"software.cpu_flushes_denormals": "precision_flags"}
_FIELDS: dict[str, str | None] = {
    "device": "device",
    "software.torch": "torch",
    "software.deepspeed": "deepspeed",
    "software.cudnn_benchmark": "precision_flags",
    "software.fp32_matmul_allows_tf32": "precision_flags",
    "software.fp32_cudnn_allows_tf32": "precision_flags",
    "host.cpu_model": "cpu",
    "host.num_physical_cores": "cpu",
    "host.num_usable_processors": "cpu",
    "host.governor": "cpu",
    "host.cpu_max_mhz": "cpu",
    "software.cpu_capability": "cpu",
    "software.has_mkldnn": "cpu",
    "software.num_threads": "threads",
    "software.num_interop_threads": "threads",
    "host_allocator": "host_allocator",
    "host.memory_total_bytes": None,
    "host.memory_limit_bytes": None,
    "host.container": None,
    "host.virtual_machine": None,
    "host.kernel": None,
    "host.os": None,
    "host.libc": None,
    "software.python": None,
    "software.numpy": None,
    "benchbox": None,
}
_SETTINGS_OF_ENVIRONMENTS = ("host_allocator", "num_threads", "cudnn_benchmark")
"""Settings of measuring that the environment's facts show as they came out."""
_ALLOCATOR_PREFIXES = ("MALLOC_", "GLIBC_TUNABLES")
_THREAD_PREFIXES = ("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_")
_PLACES = ("_HOME", "_PATH", "_DIR", "_ROOT", "_VERSION", "CUDA_VISIBLE_DEVICES")
"""Ends of variables that say where something lies, which differs from machine to machine."""

Facts = dict[str, tuple[str | None, str | None]]
"""Field: the group that ``--across`` knows it by (``None``: only told), and its value."""


def check_across(names: Sequence[str]) -> frozenset[str]:
    """The fields that may differ, without the prefix that reports give them.

    Raises:
        BadInputError: a name is neither a group, nor a field of environments, nor one of cases.
    """
    plain = [name.removeprefix("environment.").removeprefix("case.") for name in names]
    for given, name in zip(names, plain, strict=True):
        known = (*GROUPS, *CASE_FIELDS, "devices", *_CPU_FIELDS, *_GPU_FIELDS, *_FIELDS)
        if name not in known and not (name.startswith("variables.") and name != "variables."):
            raise BadInputError(
                f"--across: {given!r} is not one of {', '.join(GROUPS)}, nor a field of a case "
                f"({', '.join(CASE_FIELDS)}), nor the full name of a field that differs"
            )
    return frozenset(plain)


def environment_differences(
    base: Environment, new: Environment, across: frozenset[str]
) -> list[IdentityDifference]:
    """The facts in which the two differ, those that forbid a comparison first."""
    old, now = _facts(base), _facts(new)
    found = []
    for field in dict.fromkeys((*old, *now)):
        group, before = old.get(field, (now.get(field, (None, None))[0], None))
        _, after = now.get(field, (group, None))
        if before != after:
            lifted = group is not None and bool({group, field} & across)
            found.append(IdentityDifference(field=field, base=before, new=after, across=group, lifted=lifted))
    return sorted(found, key=lambda difference: difference.across is None)


def settings_differences(base: MeasureSettings, new: MeasureSettings) -> list[IdentityDifference]:
    """How differently the two were measured. It is only told: it changes how sure a figure is, and seldom the
    figure."""
    names = [name for name in MeasureSettings.__struct_fields__ if name not in _SETTINGS_OF_ENVIRONMENTS]
    values = [(name, _word(getattr(base, name)), _word(getattr(new, name))) for name in names]
    return [
        IdentityDifference(field=f"measure.{name}", base=before, new=after, across=None)
        for name, before, after in values
        if before != after
    ]


def workload_difference(base: Case, new: Case) -> list[str]:
    """The fields by which two cases with the same axes are not the same work; empty where axes differ too."""
    differing = [name for name in CASE_FIELDS if getattr(base, name) != getattr(new, name)]
    return differing if all(name in _ALIKE for name in differing) else []


def meaning(case: Case, ignored: frozenset[str]) -> str:
    """What a case means, less the fields to be ignored: cases are the same where this is.

    As for the case's id, fields that are ``None`` do not count.
    """
    fields: dict[str, Any] = {
        name: value
        for name in CASE_FIELDS
        if name not in ignored and (value := getattr(case, name)) is not None
    }
    return msgspec.json.encode(fields, order="sorted").decode()


def same_case_twice(report: str, first: Case, second: Case) -> BadInputError:
    """For two cases of ``report`` that mean the same, if only without the fields to be ignored."""
    which = f"{report}: cases {first.case_id} and {second.case_id}"
    if meaning(first, frozenset()) == meaning(second, frozenset()):
        return BadInputError(f"{which} are the same one under two ids; take one of them out")
    return BadInputError(f"--across: {which} would be the same one")


def axes_of(case: Case, ignored: frozenset[str]) -> str:
    """The same without the fields that are no axes."""
    return meaning(case, ignored | frozenset(_ALIKE))


def _facts(environment: Environment) -> Facts:
    machines: list[Environment | NodeEnvironment] = [environment, *environment.nodes]
    facts: Facts = {}
    if environment.device == "cpu":
        fields = _CPU_FIELDS | _FIELDS
    else:
        facts["devices"] = ("device", str(sum(len(machine.devices) for machine in machines)))
        fields = _GPU_FIELDS | _FIELDS
    facts |= {name: (group, _value(machines, name)) for name, group in fields.items()}
    for machine in machines:
        for name, value in machine.worker_variables.items():
            facts.setdefault(f"variables.{name}", (_group_of_variable(name), value))
    return facts


def _value(machines: Sequence[Environment | NodeEnvironment], field: str) -> str | None:
    """Of all machines and devices of a run: one word where they agree, else each one's."""
    room, _, name = field.rpartition(".")
    values: list[str | None]
    if room == "devices":
        values = [_word(getattr(device, name)) or "unknown" for m in machines for device in m.devices]
    elif room:
        values = [_word(getattr(getattr(machine, room), name)) for machine in machines]
    else:  # the same on all machines, so it stands with the first one alone
        values = [_word(getattr(machines[0], name))]
    if len(set(values)) <= 1:
        return values[0] if values else None
    return ", ".join(value or "unknown" for value in values)


def _word(value: object) -> str | None:
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _group_of_variable(name: str) -> str | None:
    if name.endswith(_PLACES):
        return None
    if name.startswith(_ALLOCATOR_PREFIXES):
        return "host_allocator"
    return "threads" if name.startswith(_THREAD_PREFIXES) else "variables"
