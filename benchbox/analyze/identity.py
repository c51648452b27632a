"""Whether two reports may be compared at all: the facts that make a case fast or slow besides what is tested.

Facts fall into groups by what a user means with ``--across``: a new torch brings its CUDA and cuDNN, a new
device its memory and clocks. Facts that hardly touch speed are told where they differ, and forbid nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from benchbox.errors import BadInputError
from benchbox.schema import Case, Environment, Report
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
_DEVICE = (
    "name",
    "memory_total_bytes",
    "compute_capability",
    "num_multiprocessors",
    "mig_enabled",
    "ecc_enabled",
    "max_clock_sm_mhz",
    "max_clock_memory_mhz",
)
_CPU = ("cpu_model", "num_physical_cores", "num_usable_processors", "governor", "cpu_max_mhz")
_PRECISION = (
    "cudnn_benchmark",
    "fp32_matmul_allows_tf32",
    "fp32_cudnn_allows_tf32",
    "cpu_flushes_denormals",
)
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
        root = name.partition(".")[0]
        if name not in (*GROUPS, *CASE_FIELDS) and root not in ("host", "software", "devices", "variables"):
            raise BadInputError(
                f"--across: {given!r} is not one of {', '.join(GROUPS)}, nor a field of a case "
                f"({', '.join(CASE_FIELDS)}), nor the full name of a field that differs"
            )
    return frozenset(plain)


def environment_differences(base: Report, new: Report, across: frozenset[str]) -> list[IdentityDifference]:
    """The facts in which the two reports differ, those that forbid a comparison first."""
    old, now = _facts(base.environment), _facts(new.environment)
    found = []
    for field in dict.fromkeys((*old, *now)):
        group, before = old.get(field, (now.get(field, (None, None))[0], None))
        _, after = now.get(field, (group, None))
        if before != after:
            lifted = group is not None and bool({group, field} & across)
            found.append(IdentityDifference(field=field, base=before, new=after, across=group, lifted=lifted))
    return sorted(found, key=lambda difference: difference.across is None)


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


def axes_of(case: Case, ignored: frozenset[str]) -> str:
    """The same without the fields that are no axes."""
    return meaning(case, ignored | frozenset(_ALIKE))


def _facts(environment: Environment) -> Facts:
    gpu = environment.device != "cpu"
    host, software = environment.host, environment.software
    facts: Facts = {
        "device": ("device", environment.device),
        "devices": ("device", str(len(environment.devices)) if gpu else None),
    }
    for name in _DEVICE if gpu else ():
        facts[f"devices.{name}"] = ("device", _each(environment, name))
    if gpu:
        facts["devices.power_limit_w"] = ("power_limit", _each(environment, "power_limit_w"))
        facts["driver"] = ("driver", environment.driver)
        for name in ("cuda", "cudnn", "nccl"):
            facts[f"software.{name}"] = ("torch", getattr(software, name))
    facts["software.torch"] = ("torch", software.torch)
    facts["software.deepspeed"] = ("deepspeed", software.deepspeed)
    for name in _PRECISION:
        facts[f"software.{name}"] = ("precision_flags", _word(getattr(software, name)))
    for name in _CPU:
        facts[f"host.{name}"] = ("cpu", _word(getattr(host, name)))
    for name in ("cpu_capability", "has_mkldnn"):
        facts[f"software.{name}"] = ("cpu", _word(getattr(software, name)))
    for name in ("num_threads", "num_interop_threads"):
        facts[f"software.{name}"] = ("threads", _word(getattr(software, name)))
    facts["host_allocator"] = ("host_allocator", environment.host_allocator)
    for name, value in environment.worker_variables.items():
        facts[f"variables.{name}"] = (_group_of_variable(name), value)
    facts |= {f"host.{name}": (None, _word(getattr(host, name))) for name in ("kernel", "os", "libc")}
    facts |= {f"software.{name}": (None, _word(getattr(software, name))) for name in ("python", "numpy")}
    facts["benchbox"] = (None, environment.benchbox)
    return facts


def _each(environment: Environment, name: str) -> str:
    return ", ".join(_word(getattr(device, name)) or "unknown" for device in environment.devices)


def _word(value: object) -> str | None:
    return None if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _group_of_variable(name: str) -> str | None:
    if name.endswith(_PLACES):
        return None
    if name.startswith(_ALLOCATOR_PREFIXES):
        return "host_allocator"
    return "threads" if name.startswith(_THREAD_PREFIXES) else "variables"
