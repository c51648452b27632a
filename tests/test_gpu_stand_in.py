"""What can be proved of the GPU path without a GPU.

Which device is chosen, and that what a driver tells of it ends up in journal, report and summary. The driver
is a stand-in; the binding and the worker are real.
"""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from benchbox.errors import BadInputError
from benchbox.measure import environment
from benchbox.measure.environment import choose_device, visible_device
from benchbox.report.csvfile import render_csv
from benchbox.report.files import read_report
from benchbox.schema import AttemptResult, DeviceFacts, Environment, TorchFacts
from tests.factories import make_environment
from tests.nvml_stand_in import StandIn
from tests.runs import journal_attempts, write_suite

FIRST = "5f0c9c1e-0000-4000-8000-00000000aaaa"
SECOND = "5f0c9c1e-0000-4000-8000-00000000bbbb"
MIG = "MIG-5f0c9c1e-0000-4000-8000-00000000cccc"
GIB = 2**30
POWER_W = 300.0


def facts_of(*uuids: str | None) -> TorchFacts:
    """As torch describes a machine with these devices; it leaves the ``GPU-`` out."""
    devices = tuple(
        DeviceFacts(index=index, name="NVIDIA H100 80GB HBM3", uuid=uuid, num_multiprocessors=132)
        for index, uuid in enumerate(uuids)
    )
    return replace(make_environment().software, devices=devices)


NONE, ONE, TWO = facts_of(), facts_of(FIRST), facts_of(FIRST, SECOND)
PREFIXED = facts_of(f"GPU-{FIRST}", f"GPU-{SECOND}")
SLICE = facts_of(MIG)


@pytest.mark.parametrize(
    ("choice", "facts", "index"),
    [
        ("auto", NONE, None),
        ("cpu", NONE, None),
        ("cpu", TWO, None),
        ("auto", TWO, 0),
        ("cuda", TWO, 0),
        ("cuda:0", TWO, 0),
        ("cuda:1", TWO, 1),
        (SECOND, TWO, 1),
        (f"GPU-{SECOND}", TWO, 1),
        (f"GPU-{SECOND.upper()}", TWO, 1),
        (SECOND, PREFIXED, 1),
        (f"GPU-{SECOND}", PREFIXED, 1),
        (MIG, SLICE, 0),
        (MIG.removeprefix("MIG-"), SLICE, 0),
        (MIG, facts_of(MIG.removeprefix("MIG-")), 0),
        ("auto", facts_of(None), 0),
    ],
)
def test_the_device_that_is_meant_is_chosen(choice: str, facts: TorchFacts, index: int | None) -> None:
    chosen = choose_device(choice, facts)
    assert (None if chosen is None else chosen.index) == index


@pytest.mark.parametrize(
    ("choice", "facts", "there"),
    [
        ("cuda", NONE, "torch sees cpu"),
        ("cuda:2", TWO, f"torch sees cpu, cuda:0 (NVIDIA H100 80GB HBM3, GPU-{FIRST}), cuda:1 ("),
        ("cuda:0", NONE, "torch sees cpu"),
        ("None", facts_of(None), "torch sees cpu, cuda:0 (NVIDIA H100 80GB HBM3)"),
        ("GPU-None", facts_of(None), "cuda:0"),
        ("GPU-", TWO, "cuda:0"),
        ("", TWO, "cuda:0"),
        ("mps", TWO, "cuda:0"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    choice: str, facts: TorchFacts, there: str
) -> None:
    with pytest.raises(BadInputError) as raised:
        choose_device(choice, facts)
    assert repr(choice) in str(raised.value)
    assert there in str(raised.value)


@pytest.mark.parametrize(
    ("choice", "facts", "visible"),
    [
        ("cpu", TWO, None),
        ("cuda:0", ONE, None),  # it sees no other
        ("cuda:0", TWO, f"GPU-{FIRST}"),
        ("cuda:1", TWO, f"GPU-{SECOND}"),
        ("cuda:1", PREFIXED, f"GPU-{SECOND}"),
        ("cuda:0", SLICE, None),  # whatever made the slice visible stays
        ("cuda:1", facts_of(FIRST, MIG), MIG),
        ("cuda:1", facts_of(None, None), None),
    ],
)
def test_the_worker_sees_the_chosen_device_alone(choice: str, facts: TorchFacts, visible: str | None) -> None:
    assert visible_device(choose_device(choice, facts), facts) == visible


def test_facts_of_torch_come_first_and_the_drivers_fill_the_gaps() -> None:
    by_torch = DeviceFacts(index=0, name="torch's name", uuid=FIRST, memory_total_bytes=79 * GIB)
    by_driver = DeviceFacts(
        index=3,
        name="the driver's name",
        uuid=f"GPU-{FIRST}",
        memory_total_bytes=80 * GIB,
        power_limit_w=700.0,
    )
    merged = environment._merged(by_torch, by_driver)
    assert merged == replace(by_torch, power_limit_w=700.0)
    assert environment._merged(by_torch, None) == by_torch


ENVIRONMENT = """
import msgspec
from benchbox.measure.environment import choose_device, describe_environment
from benchbox.measure.nvml import Nvml
from benchbox.schema import MeasureSettings, TorchFacts
facts = msgspec.json.decode(os.environ["FACTS"], type=TorchFacts)
nvml = Nvml()
chosen = choose_device("cuda:1", facts)
described = describe_environment(facts, chosen, nvml, MeasureSettings(), {"OMP_NUM_THREADS": "3"})
print(msgspec.json.encode(described).decode())
"""


def test_the_environment_names_the_chosen_device_with_what_torch_and_driver_know(
    nvml_stand_in: StandIn,
) -> None:
    # The driver counts in bus order and torch does not: the second for torch is the driver's first.
    nvml_stand_in.set(
        "device_count 2",
        f"0.uuid GPU-{SECOND}",
        f"1.uuid GPU-{FIRST}",
        "0.power_limit_mw 350000",
        "0.max_clock_sm 1111",
        "1.max_clock_sm 2222",
    )
    facts = msgspec.json.encode(TWO).decode()
    plain = nvml_stand_in.run(ENVIRONMENT, FACTS=facts, NCCL_DEBUG="WARN", SECRET_TOKEN="x")
    described = msgspec.convert(plain, Environment)
    assert described.device == "cuda"
    (device,) = described.devices
    assert (device.index, device.uuid) == (1, SECOND)
    assert device.max_clock_sm_mhz == 1111
    assert device.num_multiprocessors == 132
    assert described.driver is not None
    assert described.worker_variables["OMP_NUM_THREADS"] == "3"
    assert described.worker_variables["NCCL_DEBUG"] == "WARN"
    assert "SECRET_TOKEN" not in described.worker_variables


RUN = """
from benchbox.measure.attempt import Tick
from benchbox.measure.runner import SuiteRun
from benchbox.plan.suite import load_suite
from benchbox.report.files import write_report
from benchbox.report.from_run import report_of_run
suite = Path(os.environ["SUITE"])
out = suite.parent / "out"
with SuiteRun(load_suite(suite), suite.parent, out, device="cpu", resume=False, force=False) as run:
    run._uuids = (os.environ["UUID"],)  # as if the worker trained on it
    memory = [e.device_memory_used_bytes for e in run.events() if isinstance(e, Tick)]
    write_report(report_of_run(run), out / "report.json")
print(json.dumps(memory))
"""


class Watched:
    """A real worker on the CPU, with the sampler on a stand-in device as if it trained there."""

    def __init__(self, folder: Path, library: Path) -> None:
        driver = StandIn(library, folder / "nvml.txt")
        driver.set(
            "device_count 2",
            f"0.uuid GPU-{FIRST}",
            f"1.uuid GPU-{SECOND}",
            "0.power_mw 900000",
            f"1.power_mw {POWER_W * 1000:.0f}",
            f"1.memory_used {7 * GIB}",
            "1.utilization_gpu 83",
            "1.reasons 4",
        )
        # torch's way to write a UUID; enough samples a window for an energy from the counter.
        suite = write_suite(
            folder,
            '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n',
            telemetry_hz=50,
            max_seconds=2,
            ci_target_pct=1e-9,
        )
        self.shown_memory = driver.run(RUN, SUITE=str(suite), UUID=SECOND)
        (self.journalled,) = journal_attempts(folder / "out")
        self.report = read_report(folder / "out" / "report.json")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, nvml_library: Path) -> Watched:
    return Watched(tmp_path_factory.mktemp("watched"), nvml_library)


def test_samples_of_the_device_are_in_the_journal(watched: Watched) -> None:
    (device,) = watched.journalled.devices
    assert device.uuid == f"GPU-{SECOND}"
    assert len(device.sample_at_ns) > 10
    assert set(device.memory_used_bytes or ()) == {7 * GIB}
    assert set(device.power_w or ()) == {POWER_W}
    assert set(device.utilization_gpu_pct or ()) == {83}
    assert set(device.throttle_reasons or ()) == {4}
    energy = [joules for joules in device.energy_j or () if joules is not None]
    assert energy == sorted(energy)
    assert energy[0] < energy[-1]


def test_samples_lie_within_the_measured_windows(watched: Watched) -> None:
    (device,), (rank,) = watched.journalled.devices, watched.journalled.ranks
    for at_ns in device.sample_at_ns:
        assert any(window.start_at_ns <= at_ns <= window.end_at_ns for window in rank.windows)


def energy_of(attempt: AttemptResult, global_batch_size: int) -> float:
    """Joules a sample that follow from the constant power and the measured windows."""
    (rank,) = attempt.ranks
    windows_s = sum(window.end_at_ns - window.start_at_ns for window in rank.windows) / 1e9
    return POWER_W * windows_s / (len(rank.step_time_ns) * global_batch_size)


def test_the_summary_has_memory_power_energy_and_throttling(watched: Watched) -> None:
    (case,) = watched.report.cases
    assert case.attempts == (watched.journalled,)
    summary = case.summary
    assert summary is not None
    assert summary.device_memory_used_bytes == 7 * GIB
    assert summary.power_w == pytest.approx(POWER_W)
    assert summary.utilization_gpu_pct == 83
    assert summary.throttled_samples_pct == 100
    assert summary.energy_source == "counter"
    expected = energy_of(watched.journalled, case.case.global_batch_size)
    assert summary.joules_per_sample == pytest.approx(expected, rel=0.1)


def test_the_reader_is_shown_what_was_sampled(watched: Watched) -> None:
    known = [value for value in watched.shown_memory if value is not None]
    assert statistics.mode(known) == 7 * GIB
    (row,) = csv.DictReader(io.StringIO(render_csv([watched.report])))
    assert float(row["device_memory_used_bytes"]) == 7 * GIB
    assert float(row["power_w"]) == pytest.approx(POWER_W)
    assert float(row["joules_per_sample"]) > 0
