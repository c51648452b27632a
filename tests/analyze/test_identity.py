"""Every fact by which two reports are not comparable, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from benchbox.analyze import identity
from benchbox.analyze.identity import GROUPS, check_across
from benchbox.analyze.matching import Side, compare_sides, side_of
from benchbox.errors import BadInputError
from benchbox.schema import Environment, MeasureSettings
from benchbox.schema.comparison import Comparison, Thresholds
from benchbox.schema.environment import DeviceFacts, HostFacts, TorchFacts
from tests.factories import make_report

GPU: dict[str, tuple[str | None, Any]] = {
    "devices.name": ("device", "NVIDIA H200"),
    "devices.memory_total_bytes": ("device", 2**37),
    "devices.compute_capability": ("device", "9.9"),
    "devices.num_multiprocessors": ("device", 114),
    "devices.mig_enabled": ("device", True),
    "devices.ecc_enabled": ("device", False),
    "devices.max_clock_sm_mhz": ("device", 1755.0),
    "devices.max_clock_memory_mhz": ("device", 1593.0),
    "devices.power_limit_w": ("power_limit", 350.0),
    "driver": ("driver", "999.1"),
    "software.cuda": ("torch", "99.1"),
    "software.cudnn": ("torch", "99.1"),
    "software.nccl": ("torch", "99.1"),
}
CPU: dict[str, tuple[str | None, Any]] = {"software.cpu_flushes_denormals": ("precision_flags", False)}
BOTH: dict[str, tuple[str | None, Any]] = {
    "software.torch": ("torch", "99.1"),
    "software.deepspeed": ("deepspeed", "99.1"),
    "software.cudnn_benchmark": ("precision_flags", False),
    "software.fp32_matmul_allows_tf32": ("precision_flags", True),
    "software.fp32_cudnn_allows_tf32": ("precision_flags", True),
    "software.cpu_capability": ("cpu", "NO AVX"),
    "software.has_mkldnn": ("cpu", False),
    "software.num_threads": ("threads", 77),
    "software.num_interop_threads": ("threads", 77),
    "host.cpu_model": ("cpu", "Another CPU"),
    "host.num_physical_cores": ("cpu", 77),
    "host.num_usable_processors": ("cpu", 77),
    "host.governor": ("cpu", "powersave"),
    "host.cpu_max_mhz": ("cpu", 777.0),
    "host_allocator": ("host_allocator", "system"),
    "host.memory_total_bytes": (None, 2**40),
    "host.memory_limit_bytes": (None, 2**39),
    "host.container": (None, "podman"),
    "host.virtual_machine": (None, False),
    "host.kernel": (None, "7.7.7"),
    "host.os": (None, "Another OS"),
    "host.libc": (None, "musl 1.2"),
    "software.python": (None, "3.99.0"),
    "software.numpy": (None, "99.1"),
    "benchbox": (None, "99.1"),
}
VARIABLES: dict[str, str | None] = {
    "NCCL_ALGO": "variables",
    "CUDA_LAUNCH_BLOCKING": "variables",
    "OMP_NUM_THREADS": "threads",
    "MKL_NUM_THREADS": "threads",
    "KMP_AFFINITY": "threads",
    "GOMP_CPU_AFFINITY": "threads",
    "OPENBLAS_NUM_THREADS": "threads",
    "MALLOC_ARENA_MAX": "host_allocator",
    "GLIBC_TUNABLES": "host_allocator",
    "CUDA_HOME": None,
    "LD_LIBRARY_PATH": None,
    "TORCHINDUCTOR_CACHE_DIR": None,
    "CUDA_VISIBLE_DEVICES": None,
}
UNCOMPARED = {
    "devices.index": "a place in the machine",
    "devices.uuid": "one device of a kind is as good as another",
    "devices.default_power_limit_w": "the limit that holds is compared",
    "devices.persistence_mode": "it changes how a process starts",
    "devices.pcie_gen": "an idle link slows down, so it is as it was when it was read",
    "devices.pcie_width": "likewise",
    "software.devices": "those of the environment are these and the driver's together",
    "worker_variables": "one by one",
    "telemetry_unavailable_reason": "a figure that is missing for it is told where figures are compared",
    "nodes": "their facts count with those of the first machine",
}
"""Why a fact is not even told."""
SIDES = {device: side_of("base", make_report(device)) for device in ("cuda", "cpu")}
FACTS = [("cuda", field, *what) for field, what in (GPU | BOTH).items()]
FACTS += [("cpu", field, *what) for field, what in (CPU | BOTH).items()]


def changed(environment: Environment, field: str, value: object) -> Environment:
    room, _, name = field.rpartition(".")
    if room == "devices":
        devices = tuple(replace(device, **{name: value}) for device in environment.devices)
        return replace(environment, devices=devices)
    if room:
        return replace(environment, **{room: replace(getattr(environment, room), **{name: value})})
    return replace(environment, **{field: value})


def in_environment(side: Side, environment: Environment) -> Side:
    return side._replace(name="new", report=replace(side.report, environment=environment))


def check_difference(base: Side, new: Side, field: str, group: str | None) -> None:
    def compared(*across: str) -> Comparison:
        return compare_sides(base, new, Thresholds(), check_across(across))

    found = compared()
    assert [(d.field, d.across, d.lifted) for d in found.differences] == [(field, group, False)]
    verdicts = {case.verdict for case in found.cases}
    if group is None:
        assert verdicts == {"same"}
        return
    assert verdicts == {"not-comparable"}
    assert all(case.reason == f"the reports differ in {field}" for case in found.cases)
    others = [other for other in GROUPS if other != group]
    assert {case.verdict for case in compared(*others).cases} == {"not-comparable"}
    lifted = compared(group)
    assert {case.verdict for case in lifted.cases} == {"same"}
    assert [d.lifted for d in lifted.differences] == [True]


@pytest.mark.parametrize(("device", "field", "group", "value"), FACTS)
def test_one_fact_that_differs(device: str, field: str, group: str | None, value: object) -> None:
    base = SIDES[device]
    new = in_environment(base, changed(base.report.environment, field, value))
    assert new.report.environment != base.report.environment
    check_difference(base, new, field, group)


@pytest.mark.parametrize(("name", "group"), VARIABLES.items())
def test_one_variable_that_differs(name: str, group: str | None) -> None:
    base = SIDES["cuda"]
    environment = base.report.environment
    variables = {k: v for k, v in environment.worker_variables.items() if k != name}
    base = in_environment(base, replace(environment, worker_variables=variables))
    new = in_environment(base, replace(environment, worker_variables=variables | {name: "x"}))
    check_difference(base, new, f"variables.{name}", group)


def test_a_cpu_is_no_gpu() -> None:
    base, new = SIDES["cuda"], SIDES["cpu"]
    fields = {d.field: d.across for d in compare_sides(base, new, Thresholds()).differences}
    assert (fields["device"], fields["devices"]) == ("device", "device")
    lifted = compare_sides(base, new, Thresholds(), frozenset(GROUPS))
    assert all(d.lifted or d.across is None for d in lifted.differences)
    assert lifted.is_comparable()


def test_every_fact_of_an_environment_is_compared_or_left_out_for_a_reason() -> None:
    fields = {f"devices.{name}" for name in DeviceFacts.__struct_fields__}
    fields |= {f"software.{name}" for name in TorchFacts.__struct_fields__}
    fields |= {f"host.{name}" for name in HostFacts.__struct_fields__}
    fields |= {n for n in Environment.__struct_fields__ if n not in ("devices", "software", "host")}
    assert fields == {*GPU, *CPU, *BOTH, "device", *UNCOMPARED}
    known = {*identity._GPU_FIELDS, *identity._CPU_FIELDS, *identity._FIELDS}
    assert known == {*GPU, *CPU, *BOTH, "device"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_seconds", 5.0), ("min_measured_steps", 9), ("telemetry_hz", 0.0), ("repetitions", 7)],
)
def test_how_it_was_measured_is_told_and_forbids_nothing(name: str, value: object) -> None:
    base = SIDES["cuda"]
    suite = base.report.suite
    suite = replace(suite, measure=replace(suite.measure, **{name: value}))
    new = base._replace(report=replace(base.report, suite=suite))
    check_difference(base, new, f"measure.{name}", None)


def test_settings_that_the_environment_shows_are_not_told_twice() -> None:
    told = identity.settings_differences(
        MeasureSettings(),
        MeasureSettings(host_allocator="system", num_threads=7, cudnn_benchmark=False),
    )
    assert told == []


def test_a_case_under_two_ids_is_not_blamed_on_an_option() -> None:
    base = SIDES["cuda"]
    first = base.evidence[0]
    twice = base._replace(
        evidence=[*base.evidence, first._replace(case=replace(first.case, case_id="other"))]
    )
    says = f"base: cases {first.case.case_id} and other are the same one under two ids"
    with pytest.raises(BadInputError, match=f"^{says}"):
        compare_sides(twice, base, Thresholds())
    with pytest.raises(BadInputError, match=f"^{says}"):
        compare_sides(twice, base, Thresholds(), check_across(["torch"]))
