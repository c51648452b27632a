"""The driver's door, through the real binding and a library that stands in for the driver's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchbox.measure.nvml import DeviceSample, Nvml
from benchbox.schema import SLOWING_REASONS_MASK, THROTTLE_REASONS, DeviceTelemetry
from tests.nvml_stand_in import StandIn

A = "GPU-aaaaaaaa-1111-2222-3333-444444444444"
B = "GPU-bbbbbbbb-1111-2222-3333-444444444444"

SAMPLE = """
from benchbox.measure.nvml import Nvml
nvml = Nvml()
device = nvml.devices[0]
device.sample()
full = device.sample(own_pids=frozenset({42}), pcie="tx")._asdict()
full["pcie_rx_bytes_per_s"] = device.sample(pcie="rx").pcie_rx_bytes_per_s
print(json.dumps(full))
"""

ALL_FIELDS = (
    "*.memory_used 1000000000",
    "*.power_mw 350500",
    "*.energy_fixed_mj 123456789",
    "*.temperature 61",
    "*.clock_sm 1410",
    "*.clock_memory 2619",
    "*.reasons 0x24",
    "*.power_limit_mw 350000",
    "*.default_power_limit_mw 700000",
    "*.pcie_tx_kb 10",
    "*.pcie_rx_kb 20",
    "*.processes 42,77,78",
)


def test_the_sample_has_the_columns_of_the_record() -> None:
    about = ("uuid", "sample_at_ns", "node")
    columns = [name for name in DeviceTelemetry.__struct_fields__ if name not in about]
    assert list(DeviceSample._fields) == columns


def test_every_field_of_a_device_that_has_all(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set(*ALL_FIELDS)
    assert nvml_stand_in.run(SAMPLE) == {
        "memory_used_bytes": 1000000000,
        "utilization_gpu_pct": 97,
        "utilization_memory_pct": 41,
        "power_w": pytest.approx(350.5),
        "energy_j": pytest.approx(123456.789),
        "temperature_c": 61,
        "clock_sm_mhz": 1410,
        "clock_memory_mhz": 2619,
        "throttle_reasons": 0x24,
        "power_limit_pct": 50.0,
        "pcie_tx_bytes_per_s": 10 * 1024,
        "pcie_rx_bytes_per_s": 20 * 1024,
        "sm_activity_pct": 88.5,
        "tensor_activity_pct": 33.25,
        "dram_activity_pct": 61.0,
        "num_foreign_processes": 2,
    }


def test_what_an_old_driver_lacks_is_none_and_never_zero(old_nvml_stand_in: StandIn) -> None:
    old_nvml_stand_in.set(*ALL_FIELDS)
    sample = old_nvml_stand_in.run(SAMPLE)
    missing = {"energy_j", "sm_activity_pct", "tensor_activity_pct", "dram_activity_pct"}
    assert {name for name, value in sample.items() if value is None} == missing
    assert sample["memory_used_bytes"] == 1000000000 + (500 << 20)  # the old call counts the reserve
    assert sample["throttle_reasons"] == 0x24  # by its old name
    assert sample["num_foreign_processes"] == 2  # by its old version


FIELDS_BY_FUNCTION = {
    "nvmlDeviceGetUtilizationRates": {"utilization_gpu_pct", "utilization_memory_pct"},
    "nvmlDeviceGetPowerUsage": set(),  # the field for the power at this moment comes first
    "nvmlDeviceGetFieldValues": set(),  # and where that is missing, this
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_j"},
    "nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetClockInfo": {"clock_sm_mhz", "clock_memory_mhz"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle_reasons"},
    "nvmlDeviceGetPowerManagementDefaultLimit": {"power_limit_pct"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_pct"},
    "nvmlDeviceGetPcieThroughput": {"pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s"},
    "nvmlGpmQueryDeviceSupport": {"sm_activity_pct", "tensor_activity_pct", "dram_activity_pct"},
    "nvmlGpmSampleGet": {"sm_activity_pct", "tensor_activity_pct", "dram_activity_pct"},
    "nvmlGpmMetricsGet": {"sm_activity_pct", "tensor_activity_pct", "dram_activity_pct"},
    "nvmlDeviceGetComputeRunningProcesses_v3": {"num_foreign_processes"},
}


@pytest.mark.parametrize("function", FIELDS_BY_FUNCTION)
def test_a_field_that_is_not_supported_is_none_alone(nvml_stand_in: StandIn, function: str) -> None:
    nvml_stand_in.set(*ALL_FIELDS, f"*.error.{function} 3")
    sample = nvml_stand_in.run(SAMPLE)
    assert {name for name, value in sample.items() if value is None} == FIELDS_BY_FUNCTION[function]


@pytest.mark.parametrize(("code", "asked_again"), [(3, False), (4, False), (10, True), (999, True)])
def test_only_a_passing_failure_is_asked_again(nvml_stand_in: StandIn, code: int, asked_again: bool) -> None:
    readings = nvml_stand_in.run(f"""
from benchbox.measure.nvml import Nvml
device = Nvml().devices[0]
read = lambda: device.sample().temperature_c
set_driver("0.temperature 5")
before = read()
set_driver("0.temperature 5", "0.error.nvmlDeviceGetTemperature {code}")
during = read()
set_driver("0.temperature 5")
print(json.dumps([before, during, read()]))
""")
    assert readings == [5, None, 5 if asked_again else None]


@pytest.mark.parametrize(
    ("settings", "power_w"),
    [
        ((), 300.0),
        (("0.instant_power_error 3",), 200.0),
        (("0.error.nvmlDeviceGetFieldValues 13",), 200.0),
        (("0.instant_power_error 3", "0.error.nvmlDeviceGetPowerUsage 3"), None),
    ],
)
def test_power_is_of_this_moment_where_the_device_tells_it(
    nvml_stand_in: StandIn, settings: tuple[str, ...], power_w: float | None
) -> None:
    nvml_stand_in.set("0.power_mw 200000", "0.instant_power_mw 300000", *settings)
    assert nvml_stand_in.run(SAMPLE)["power_w"] == power_w


def test_an_old_driver_tells_its_own_mean_power(old_nvml_stand_in: StandIn) -> None:
    old_nvml_stand_in.set("0.power_mw 200000", "0.instant_power_mw 300000")
    assert old_nvml_stand_in.run(SAMPLE)["power_w"] == 200.0


def test_all_ones_means_not_available(nvml_stand_in: StandIn) -> None:
    none32, none64 = 2**32 - 1, 2**64 - 1
    nvml_stand_in.set(
        *(f"*.{key} {none32}" for key in ("power_mw", "temperature", "clock_sm", "clock_memory")),
        *(f"*.{key} {none32}" for key in ("utilization_gpu", "utilization_memory", "power_limit_mw")),
        *(f"*.{key} {none32}" for key in ("pcie_tx_kb", "pcie_rx_kb")),
        *(f"*.{key} {none64}" for key in ("memory_used", "energy_fixed_mj", "reasons")),
        "*.gpm_sm nan",
        "*.gpm_dram_error 3",
    )
    sample = nvml_stand_in.run(SAMPLE)
    assert {name for name, value in sample.items() if value is not None} == {"tensor_activity_pct"}


def test_32_ones_are_a_fine_number_of_bytes(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set(f"*.memory_used {2**32 - 1}")
    assert nvml_stand_in.run(SAMPLE)["memory_used_bytes"] == 2**32 - 1


def test_no_default_power_limit_is_no_share_and_no_crash(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("*.default_power_limit_mw 0")
    assert nvml_stand_in.run(SAMPLE)["power_limit_pct"] is None


def test_the_energy_counter_grows_with_power_and_time(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("*.power_mw 200000", "*.energy_mj 1000000")
    power, energy, least_s, most_s = nvml_stand_in.run("""
from benchbox.measure.nvml import Nvml
device = Nvml().devices[0]
before_s = time.monotonic()
first = device.sample().energy_j
began_s = time.monotonic()
time.sleep(0.4)
ended_s = time.monotonic()
last = device.sample()
after_s = time.monotonic()
print(json.dumps([last.power_w, last.energy_j - first, ended_s - began_s, after_s - before_s]))
""")
    assert power * least_s - 0.01 <= energy <= power * most_s + 0.01  # the counter's unit is a millijoule


FACTS = """
import msgspec
from benchbox.measure.nvml import Nvml
nvml = Nvml()
print(json.dumps({"driver": nvml.driver_version, "why": nvml.unavailable_reason,
                  "devices": [msgspec.to_builtins(device.facts()) for device in nvml.devices]}))
nvml.close()
nvml.close()
"""


def test_facts(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set(
        "driver_version 570.1",
        f"0.uuid {A}",
        "0.name NVIDIA L4",
        "0.power_limit_mw 60000",
        "0.pcie_width_now 4",  # as at idle
    )
    answer = nvml_stand_in.run(FACTS)
    assert answer["driver"] == "570.1"
    assert answer["why"] is None
    assert answer["devices"] == [
        {
            "index": 0,
            "name": "NVIDIA L4",
            "uuid": A,
            "memory_total_bytes": 80 << 30,
            "compute_capability": "9.0",
            "num_multiprocessors": None,
            "power_limit_w": 60.0,
            "default_power_limit_w": 700.0,
            "max_clock_sm_mhz": 1980,
            "max_clock_memory_mhz": 2619,
            "mig_enabled": False,
            "ecc_enabled": True,
            "persistence_mode": True,
            "pcie_gen": 5,
            "pcie_width": 16,
        }
    ]


def test_facts_of_a_device_that_tells_nothing_but_its_existence(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("0.error.* 3", "0.error.nvmlDeviceGetHandleByIndex_v2 0")
    (facts,) = nvml_stand_in.run(FACTS)["devices"]
    assert {name for name, value in facts.items() if value is not None} == {"index", "name"}
    assert facts["name"] == "unknown"


def test_devices_are_found_by_uuid_whatever_cuda_counts(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("device_count 2", f"0.uuid {A}", f"1.uuid {B}", "0.clock_sm 100", "1.clock_sm 200")
    clocks = nvml_stand_in.run(
        f"""
from benchbox.measure.nvml import Nvml
nvml = Nvml()
asked = ["{B}", "{B[4:]}", "{B.upper()}", "{A}", "{A[4:]}"]
print(json.dumps([nvml.find(uuid).sample().clock_sm_mhz for uuid in asked]))
""",
        CUDA_VISIBLE_DEVICES="1,0",
    )
    assert clocks == [200, 200, 200, 100, 100]


def test_a_uuid_is_matched_whole(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set(f"0.uuid {A}")
    found = nvml_stand_in.run(f"""
from benchbox.measure.nvml import Nvml
nvml = Nvml()
print(json.dumps([nvml.find(uuid) is not None for uuid in ["{A[:12]}", "", "GPU-", "nonsense", "é" * 99]]))
""")
    assert found == [False] * 5


@pytest.mark.parametrize(
    "slices", [("MIG-11111111-a", "MIG-22222222-b"), (f"MIG-{A}/1/0", f"MIG-{A}/2/0")], ids=["new", "old"]
)
def test_mig_slices_have_their_own_memory_and_activity_but_not_the_whole_devices_power(
    nvml_stand_in: StandIn, slices: tuple[str, str]
) -> None:
    nvml_stand_in.set(f"0.uuid {A}", f"0.slice_uuids {','.join(slices)}", "0.power_mw 1000")
    answer = nvml_stand_in.run(f"""
from benchbox.measure.nvml import Nvml
nvml = Nvml()
device = nvml.find("{slices[1]}")
device.sample()
facts = device.facts()
print(json.dumps([[d.uuid for d in nvml.devices], device.sample()._asdict(), facts.uuid, facts.mig_enabled,
                  facts.num_multiprocessors, nvml.find("{A[4:]}").facts().mig_enabled]))
""")
    uuids, sample, uuid, is_mig, num_multiprocessors, parent_is_mig = answer
    assert uuids == [A, *slices]
    assert (uuid, is_mig, num_multiprocessors, parent_is_mig) == (slices[1], True, 16, True)
    assert {name for name, value in sample.items() if value is not None} == {
        "memory_used_bytes",
        "sm_activity_pct",
        "tensor_activity_pct",
        "dram_activity_pct",
    }


def test_a_device_whose_handle_is_refused_leaves_the_others(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("device_count 2", f"1.uuid {B}", "0.error.nvmlDeviceGetHandleByIndex_v2 15")
    devices = nvml_stand_in.run(FACTS)["devices"]
    assert [(device["index"], device["uuid"]) for device in devices] == [(1, B)]


def test_processes_tell_nothing_until_an_own_one_was_seen(nvml_stand_in: StandIn) -> None:
    """As within a container, where the driver numbers processes as the machine does."""
    counts = nvml_stand_in.run("""
from benchbox.measure.nvml import Nvml
device = Nvml().devices[0]
counts = []
for processes in ("70001,70002", "42,70002", "70002", ""):
    set_driver("0.processes " + processes)
    counts.append(device.sample(own_pids=frozenset({42, 43})).num_foreign_processes)
print(json.dumps(counts + [device.sample().num_foreign_processes]))
""")
    assert counts == [None, 1, 1, 0, None]


@pytest.mark.parametrize("code", [9, 18, 999])
def test_a_driver_that_does_not_open_is_a_reason(nvml_stand_in: StandIn, code: int) -> None:
    nvml_stand_in.set(f"init_error {code}")
    answer = nvml_stand_in.run(FACTS)
    assert answer["devices"] == []
    assert answer["driver"] is None
    assert answer["why"].startswith("the NVIDIA driver cannot be opened: ")


def test_a_driver_without_devices_is_no_error(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("device_count 0")
    assert nvml_stand_in.run(FACTS) == {"driver": "580.65.06", "why": None, "devices": []}


def test_a_library_that_is_none_is_a_reason(nvml_stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    answer = nvml_stand_in.run(FACTS, LD_LIBRARY_PATH=str(tmp_path))
    assert answer["devices"] == []
    assert "Not Found" in answer["why"]


def test_no_binding_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    nvml = Nvml()
    assert nvml.devices == ()
    assert nvml.find(A) is None
    assert nvml.unavailable_reason is not None
    assert "pynvml" in nvml.unavailable_reason
    nvml.close()


def test_importing_the_module_does_not_import_the_binding() -> None:
    code = "import sys, benchbox.measure.nvml; sys.exit('pynvml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


def test_throttle_bits_are_the_bindings() -> None:
    import pynvml

    named = {
        "".join(part.capitalize() for part in name.split("_")): bit for name, bit in THROTTLE_REASONS.items()
    }
    for name, bit in named.items():
        event = getattr(pynvml, f"nvmlClocksEventReason{name}", None)
        assert bit == (
            event if event is not None else getattr(pynvml, f"nvmlClocksThrottleReason{name}", bit)
        )
    assert SLOWING_REASONS_MASK == 0x4 | 0x8 | 0x20 | 0x40 | 0x80
