"""The sampling thread, on this host and on devices of the stand-in driver."""

from __future__ import annotations

import os
import time
from itertools import pairwise

import pytest

from benchbox.measure.host import HostSample, HostWatch
from benchbox.measure.sampler import Sampler
from benchbox.schema import Window
from tests.nvml_stand_in import StandIn
from tests.runs import wait_until

ALWAYS = [Window(start_at_ns=0, end_at_ns=2**62, num_steps=1)]
SAMPLER = """
import msgspec
from benchbox.measure.nvml import Nvml
from benchbox.measure.sampler import Sampler
from benchbox.schema import Window
ALWAYS = [Window(start_at_ns=0, end_at_ns=2**62, num_steps=1)]
nvml = Nvml()
def show(*values):
    print(json.dumps(msgspec.to_builtins(values)))
"""


def test_samples_come_on_an_absolute_schedule_and_stay_within_the_windows() -> None:
    sampler = Sampler(10, ["GPU-unknown"], None)
    began_ns = time.monotonic_ns()
    sampler.start(os.getpid())
    time.sleep(0.8)
    middle = time.monotonic_ns()
    time.sleep(0.8)
    sampler.stop()
    num_ticks = (time.monotonic_ns() - began_ns) // 100_000_000 + 1
    devices, host = sampler.telemetry(ALWAYS)
    assert devices == ()
    assert host is not None
    # Fewer than there are ticks where this machine is busy, never more.
    assert 5 <= len(host.sample_at_ns) <= num_ticks
    offsets = [(at - host.sample_at_ns[0]) / 100e6 for at in host.sample_at_ns]
    assert sorted(abs(offset - round(offset)) for offset in offsets)[len(offsets) // 2] < 0.2
    assert host.worker_rss_bytes is not None
    assert sampler.latest().host_rss_bytes == host.worker_rss_bytes[-1]
    assert sampler.latest().device_memory_used_bytes is None
    half = sampler.telemetry([Window(start_at_ns=middle, end_at_ns=2**62, num_steps=1)])[1]
    assert half is not None
    assert half.sample_at_ns == tuple(at for at in host.sample_at_ns if at >= middle)
    assert half.worker_rss_bytes == host.worker_rss_bytes[-len(half.sample_at_ns) :]
    empty = sampler.telemetry([])[1]
    assert empty is not None
    assert (empty.sample_at_ns, empty.worker_rss_bytes) == ((), None)


def test_off_means_off() -> None:
    sampler = Sampler(50, [], None)
    sampler.pause()  # before the start: nothing to pause
    starts_at = time.monotonic_ns()
    sampler.start(os.getpid())
    started_at = time.monotonic_ns()
    time.sleep(0.3)
    pauses_at = time.monotonic_ns()
    sampler.pause()
    sampler.pause()
    paused_at = time.monotonic_ns()
    time.sleep(0.3)
    resumes_at = time.monotonic_ns()
    sampler.resume()
    resumed_at = time.monotonic_ns()
    time.sleep(0.3)
    stops_at = time.monotonic_ns()
    sampler.stop()
    stopped_at = time.monotonic_ns()
    sampler.stop()
    sampler.resume()
    host = sampler.telemetry(ALWAYS)[1]
    assert host is not None
    in_flight_ns = 20_000_000
    assert not [at for at in host.sample_at_ns if paused_at + in_flight_ns < at < resumes_at]
    assert [at for at in host.sample_at_ns if at < paused_at]
    assert [at for at in host.sample_at_ns if at > resumes_at]
    assert [toggle.is_on for toggle in sampler.toggles] == [True, False, True, False]
    least_ns = (pauses_at - started_at) + (stops_at - resumed_at)
    assert least_ns <= sampler.on_time_ns <= (paused_at - starts_at) + (stopped_at - resumes_at)
    assert 0 < sampler.cpu_time_ns < sampler.on_time_ns


def test_a_paused_sampler_stops_at_once() -> None:
    sampler = Sampler(0.01, [], None)
    sampler.start(os.getpid())
    time.sleep(0.1)
    sampler.pause()
    sampler.stop()
    assert sampler.failure is None  # it would be that the thread had not ended


def test_zero_hertz_takes_no_sample_and_no_thread() -> None:
    sampler = Sampler(0, [], None)
    sampler.start(os.getpid())
    sampler.stop()
    assert sampler.telemetry(ALWAYS) == ((), None)
    assert (sampler.toggles, sampler.cpu_share_pct) == ((), 0.0)


def test_a_device_is_watched_by_uuid_and_an_unknown_one_left_out(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set(
        "device_count 2",
        "0.uuid GPU-aa",
        "1.uuid GPU-bb",
        "1.memory_used 123456",
        "1.power_mw 90000",
        "pcie_blocks_us 20000",
    )
    devices, host, latest, seconds = nvml_stand_in.run(
        SAMPLER
        + """
set_driver(*Path(sys.argv[1]).read_text().splitlines(), f"1.processes {os.getpid()},1")
sampler = Sampler(10, ["bb", "GPU-gone"], nvml)
began_s = time.monotonic()
sampler.start(os.getpid())
time.sleep(2.3)
sampler.stop()
nvml.close()
show(*sampler.telemetry(ALWAYS), sampler.latest(), time.monotonic() - began_s)
""",
        CUDA_VISIBLE_DEVICES="1",
    )
    (device,) = devices
    num_samples = len(device["sample_at_ns"])
    assert device["uuid"] == "GPU-bb"
    assert set(device["memory_used_bytes"]) == {123456}
    assert all(earlier <= later for earlier, later in pairwise(device["energy_j"]))
    assert device["sm_activity_pct"] == [None] + [88.5] * (num_samples - 1)
    for column in ("pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s", "num_foreign_processes"):
        assert 2 <= sum(value is not None for value in device[column]) <= seconds + 1, column
    both = zip(device["pcie_tx_bytes_per_s"], device["pcie_rx_bytes_per_s"], strict=True)
    assert not [pair for pair in both if None not in pair]
    assert set(device["num_foreign_processes"]) == {1, None}
    assert latest[0] == 123456
    both = zip(host["sample_at_ns"], device["sample_at_ns"], strict=True)
    assert all(earlier <= later for earlier, later in both)


def test_a_device_that_is_lost_midway_is_none_from_there_and_the_rest_goes_on(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("device_count 2", "*.power_mw 90000")
    devices, host, lost_at_ns = nvml_stand_in.run(
        SAMPLER
        + """
sampler = Sampler(20, [device.uuid for device in nvml.devices], nvml)
sampler.start(os.getpid())
time.sleep(0.6)
set_driver("device_count 2", "*.power_mw 90000", "0.error.* 15")
lost_at_ns = time.monotonic_ns()
time.sleep(0.6)
sampler.stop()
show(*sampler.telemetry(ALWAYS), lost_at_ns)
"""
    )
    lost, other = devices
    assert len(host["sample_at_ns"]) == len(lost["sample_at_ns"]) == len(other["sample_at_ns"]) >= 5
    for column in ("memory_used_bytes", "power_w", "energy_j", "clock_sm_mhz", "utilization_gpu_pct"):
        after = [
            value for at, value in zip(lost["sample_at_ns"], lost[column], strict=True) if at > lost_at_ns
        ]
        assert after
        assert set(after) == {None}, column
        assert lost[column][0] is not None
        assert None not in other[column]


def test_a_column_that_the_device_lacks_is_none(old_nvml_stand_in: StandIn) -> None:
    ((device,), _) = old_nvml_stand_in.run(
        SAMPLER
        + """
sampler = Sampler(20, [nvml.devices[0].uuid], nvml)
sampler.start(os.getpid())
time.sleep(0.4)
sampler.stop()
show(*sampler.telemetry(ALWAYS))
"""
    )
    assert (device["energy_j"], device["sm_activity_pct"]) == (None, None)
    assert device["power_w"] is not None


def test_blocking_devices_leave_the_hosts_schedule_alone(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("device_count 8", "*.pcie_blocks_us 20000")
    ((*devices,), host, seconds) = nvml_stand_in.run(
        SAMPLER
        + """
sampler = Sampler(10, [device.uuid for device in nvml.devices], nvml)
began_s = time.monotonic()
sampler.start(os.getpid())
time.sleep(2.5)
sampler.stop()
show(*sampler.telemetry(ALWAYS), time.monotonic() - began_s)
"""
    )
    assert len(devices) == 8
    assert 10 <= len(host["sample_at_ns"]) <= 10 * seconds + 1  # fewer where the machine is busy, never more
    assert all(device["pcie_tx_bytes_per_s"] for device in devices)


def test_what_is_read_once_a_second_is_read_at_once(nvml_stand_in: StandIn) -> None:
    ((device,), host) = nvml_stand_in.run(
        SAMPLER
        + """
set_driver(f"0.processes {os.getpid()}")
sampler = Sampler(20, [nvml.devices[0].uuid], nvml)
sampler.start(os.getpid())
time.sleep(0.3)
sampler.stop()
show(*sampler.telemetry(ALWAYS))
"""
    )
    assert host["load_1min"][0] is not None
    assert device["num_foreign_processes"][0] == 0
    assert device["pcie_tx_bytes_per_s"][0] is not None


def test_a_failure_ends_the_samples_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Sampler(50, [], None)
    taken: list[object] = []

    def sample(self: HostWatch, *, slow: bool) -> HostSample:
        taken.append(slow)
        if len(taken) > 3:
            raise ValueError("out of order")
        return HostSample()

    monkeypatch.setattr(HostWatch, "sample", sample)
    sampler.start(os.getpid())
    assert wait_until(lambda: sampler.failure is not None)
    sampler.stop()
    host = sampler.telemetry(ALWAYS)[1]
    assert sampler.failure == "ValueError: out of order"
    assert host is not None
    assert len(host.sample_at_ns) == 3


def test_a_driver_that_does_not_answer_is_left_to_the_thread_that_waits(nvml_stand_in: StandIn) -> None:
    nvml_stand_in.set("*.pcie_blocks_us 2000000")
    failure, device, next_failure, num_next, during, after = nvml_stand_in.run(
        SAMPLER
        + """
import pynvml
from benchbox.measure import sampler as module
module._JOIN_S = 0.2
uuid = nvml.devices[0].uuid
sampler, shut = Sampler(20, [uuid], nvml), []
pynvml.nvmlShutdown = lambda: shut.append(True)
sampler.start(os.getpid())
time.sleep(0.3)
sampler.stop()
successor = Sampler(20, [uuid], nvml)
successor.start(os.getpid())
time.sleep(0.2)
successor.stop()
devices, host = successor.telemetry(ALWAYS)
found = nvml.find(uuid)
nvml.close()
during = len(shut)
sampler._thread.join()
nvml.close()
show(sampler.failure, found, successor.failure, [len(devices), len(host.sample_at_ns) > 0], during, len(shut))
"""
    )
    assert failure == "a reading had not ended after 0.2 s"
    assert device is None
    assert next_failure == "the driver has not answered since an earlier attempt"
    assert num_next == [0, True]
    assert (during, after) == (0, 1)
