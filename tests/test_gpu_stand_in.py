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
from benchbox.measure import environment, torch_facts
from benchbox.measure.devices import choose_devices, visible_devices
from benchbox.measure.placement import Placement
from benchbox.report.csvfile import render_csv
from benchbox.report.files import read_report
from benchbox.report.hints import report_hints
from benchbox.schema import AttemptResult, DeviceFacts, Environment, MeasureSettings, TorchFacts
from tests.factories import make_case, make_environment, make_report
from tests.nvml_stand_in import StandIn
from tests.runs import benchbox, journal_attempts, write_suite

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
    ("choice", "facts", "indices"),
    [
        ("auto", NONE, ()),
        ("cpu", NONE, ()),
        ("cpu", TWO, ()),
        ("auto", TWO, (0, 1)),
        ("cuda", TWO, (0, 1)),
        ("cuda:0", TWO, (0,)),
        ("cuda:1", TWO, (1,)),
        ("cuda:1,cuda:0", TWO, (1, 0)),
        (f"{SECOND}, cuda:0", TWO, (1, 0)),
        (SECOND, TWO, (1,)),
        (f"GPU-{SECOND}", TWO, (1,)),
        (f"GPU-{SECOND.upper()}", TWO, (1,)),
        (SECOND, PREFIXED, (1,)),
        (f"GPU-{SECOND}", PREFIXED, (1,)),
        (MIG, SLICE, (0,)),
        (MIG.removeprefix("MIG-"), SLICE, (0,)),
        (MIG, facts_of(MIG.removeprefix("MIG-")), (0,)),
        ("auto", facts_of(None), (0,)),
    ],
)
def test_the_devices_that_are_meant_are_chosen(
    choice: str, facts: TorchFacts, indices: tuple[int, ...]
) -> None:
    assert tuple(device.index for device in choose_devices(choice, facts)) == indices


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
        ("cuda:0,cuda:2", TWO, "'cuda:2' is not on this machine"),
        ("cuda:0,", TWO, "'' is not on this machine"),
        ("cpu,cuda:0", TWO, "'cpu' is not on this machine"),
        (f"cuda:0,GPU-{FIRST}", TWO, f"names NVIDIA H100 80GB HBM3, GPU-{FIRST} twice"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    choice: str, facts: TorchFacts, there: str
) -> None:
    with pytest.raises(BadInputError) as raised:
        choose_devices(choice, facts)
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
        ("cuda:1", facts_of(None, None), "1"),
        ("auto", TWO, f"GPU-{FIRST},GPU-{SECOND}"),
        ("cuda:1,cuda:0", TWO, f"GPU-{SECOND},GPU-{FIRST}"),
    ],
)
def test_a_case_sees_the_chosen_devices_alone_and_in_order(
    choice: str, facts: TorchFacts, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices(choose_devices(choice, facts), facts) == visible


def test_a_device_without_a_uuid_keeps_the_name_that_made_it_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6, 7")
    facts = facts_of(None, None)
    assert visible_devices(facts.devices[1:], facts) == "7"
    assert visible_devices(facts.devices, facts) == "6,7"


@pytest.mark.parametrize(
    ("world_size", "visible", "uuids", "num_threads"),
    [(1, f"GPU-{SECOND}", (SECOND,), "5"), (2, f"GPU-{SECOND},GPU-{FIRST}", (SECOND, FIRST), "2")],
)
def test_the_ranks_of_a_case_take_the_first_devices_and_share_the_threads(
    world_size: int,
    visible: str,
    uuids: tuple[str, ...],
    num_threads: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    placement = Placement(TWO.devices[::-1], TWO, num_threads=5)
    case = make_case(strategy="ddp", world_size=world_size)
    assert placement.uuids(case) == uuids
    assert placement.worker_visible() == f"GPU-{SECOND}"
    assert placement.device() == "cuda:0"
    assert placement.rank_variables(case, MeasureSettings()) == {
        "OMP_NUM_THREADS": num_threads,
        "GLOO_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": visible,
    }


def test_ranks_on_a_cpu_are_told_so_and_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    placement = Placement((), NONE, num_threads=1)
    case = make_case(strategy="zero2", world_size=4)
    assert placement.rank_variables(case, MeasureSettings()) == {
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    assert placement.rank_variables(case, MeasureSettings(num_threads=3))["OMP_NUM_THREADS"] == "3"
    assert (placement.device(), placement.worker_visible(), placement.uuids(case)) == ("cpu", None, ())


HIDDEN = """
import msgspec
from benchbox.errors import BadInputError
from benchbox.measure.devices import find_devices
from benchbox.measure.nvml import Nvml
from benchbox.measure.torch_facts import TorchAnswer
from benchbox.schema import TorchFacts
answer = TorchAnswer(msgspec.json.decode(os.environ["FACTS"], type=TorchFacts), os.environ.get("PRINTED"))
try:
    print(json.dumps([find_devices(os.environ["CHOICE"], answer, Nvml()), None]))
except BadInputError as error:
    print(json.dumps([None, str(error)]))
"""
GPU_BUILD = replace(NONE, cuda="13.0")
CPU_BUILD = replace(NONE, cuda=None, torch="2.13.0+cpu")


@pytest.mark.parametrize(
    ("facts", "variables", "why"),
    [
        (CPU_BUILD, {}, "torch 2.13.0+cpu is built without CUDA"),
        (GPU_BUILD, {}, "torch does not say why"),
        (GPU_BUILD, {"PRINTED": "CUDA initialization: too old"}, "CUDA initialization: too old"),
        (GPU_BUILD, {"CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES is '7', torch does not say why"),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_not_quietly_left_out(
    nvml_stand_in: StandIn, facts: TorchFacts, variables: dict[str, str], why: str
) -> None:
    nvml_stand_in.set("0.name NVIDIA L4")
    encoded = msgspec.json.encode(facts).decode()
    _, told = nvml_stand_in.run(HIDDEN, FACTS=encoded, CHOICE="auto", **variables)
    assert told == (
        "--device auto: torch sees no GPU although the driver lists NVIDIA L4: "
        f"{why}; --device cpu measures the CPU"
    )


@pytest.mark.parametrize(
    ("choice", "devices", "variables"),
    [
        ("cpu", 1, {}),
        ("auto", 0, {}),
        ("auto", 1, {"CUDA_VISIBLE_DEVICES": ""}),  # hidden on purpose
        ("auto", 1, {"CUDA_VISIBLE_DEVICES": "-1"}),
    ],
)
def test_the_cpu_is_measured_where_that_is_meant(
    nvml_stand_in: StandIn, choice: str, devices: int, variables: dict[str, str]
) -> None:
    nvml_stand_in.set(f"device_count {devices}")
    facts = msgspec.json.encode(GPU_BUILD).decode()
    assert nvml_stand_in.run(HIDDEN, FACTS=facts, CHOICE=choice, **variables) == [[], None]


def test_a_run_and_a_probe_refuse_alike_and_write_nothing(nvml_stand_in: StandIn, tmp_path: Path) -> None:
    nvml_stand_in.set("0.name NVIDIA L4")
    suite = write_suite(tmp_path)
    variables = nvml_stand_in.environment() | {"CUDA_VISIBLE_DEVICES": "99"}
    for command in (("run", str(suite), "--out", "out"), ("hw", "init", "--out", "out")):
        done = benchbox(*command, cwd=tmp_path, **variables)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert "torch sees no GPU although the driver lists NVIDIA L4" in line
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (None, None),
        ("one\ntwo", "two"),
        (
            "/x/__init__.py:9: UserWarning: CUDA initialization: old\n  return _count() > 0",
            "CUDA initialization: old",
        ),
    ],
)
def test_the_line_that_says_something_is_told(printed: str | None, told: str | None) -> None:
    assert torch_facts._last_line(printed) == told


SLICED = """
import msgspec
from benchbox.measure.devices import choose_devices, name_slice, visible_devices
from benchbox.measure.environment import describe_environment
from benchbox.measure.nvml import Nvml
from benchbox.schema import MeasureSettings, TorchFacts
nvml = Nvml()
facts = name_slice(msgspec.json.decode(os.environ["FACTS"], type=TorchFacts), nvml)
(chosen,) = choose_devices("auto", facts)
(device,) = describe_environment(facts, [chosen], nvml, MeasureSettings(), {}).devices
print(json.dumps([chosen.uuid, device.uuid, device.mig_enabled, visible_devices((chosen,), facts)]))
"""


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (MIG, MIG),
        (f"{MIG},MIG-of-another", MIG),
        ("MIG-that-the-driver-does-not-list", FIRST),
        (f"GPU-{FIRST}", FIRST),
    ],
)
def test_a_slice_is_watched_and_not_the_gpu_that_it_is_a_part_of(
    nvml_stand_in: StandIn, visible: str, uuid: str
) -> None:
    nvml_stand_in.set(f"0.uuid GPU-{FIRST}", f"0.slice_uuids MIG-0,{MIG}")
    facts = msgspec.json.encode(ONE).decode()  # torch gives the whole GPU's UUID
    answer = nvml_stand_in.run(SLICED, FACTS=facts, CUDA_VISIBLE_DEVICES=visible)
    assert answer == [uuid, uuid, True, None]


def test_why_a_device_is_not_watched_reaches_the_reader(nvml_stand_in: StandIn) -> None:
    facts = msgspec.json.encode(TWO).decode()
    for driver, why in (
        ("init_error 18", "the NVIDIA driver cannot be opened: "),
        ("device_count 1", "the driver lists no device with the UUID"),
    ):
        nvml_stand_in.set(driver)
        described = msgspec.convert(nvml_stand_in.run(ENVIRONMENT, FACTS=facts), Environment)
        assert (described.telemetry_unavailable_reason or "").startswith(why)
        report = replace(make_report(), environment=described)
        assert any(why in hint for hint in report_hints(report))
    assert not any("driver" in hint for hint in report_hints(make_report()))


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
from benchbox.measure.devices import choose_devices
from benchbox.measure.environment import describe_environment
from benchbox.measure.nvml import Nvml
from benchbox.schema import MeasureSettings, TorchFacts
facts = msgspec.json.decode(os.environ["FACTS"], type=TorchFacts)
nvml = Nvml()
chosen = choose_devices("cuda:1", facts)
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
    telling = {"NCCL_DEBUG": "WARN", "DNNL_VERBOSE": "1", "TRITON_DEBUG": "0", "NVIDIA_TF32_OVERRIDE": "1"}
    plain = nvml_stand_in.run(ENVIRONMENT, FACTS=facts, SECRET_TOKEN="x", **telling)
    described = msgspec.convert(plain, Environment)
    assert described.device == "cuda"
    (device,) = described.devices
    assert (device.index, device.uuid) == (1, SECOND)
    assert device.max_clock_sm_mhz == 1111
    assert device.num_multiprocessors == 132
    assert described.driver is not None
    assert described.worker_variables["OMP_NUM_THREADS"] == "3"
    assert described.telemetry_unavailable_reason is None
    telling["NVIDIA_TF32_OVERRIDE"] = "removed; was '1'"
    assert {name: described.worker_variables.get(name) for name in telling} == telling
    assert "SECRET_TOKEN" not in described.worker_variables


RUN = """
from benchbox.measure.attempt import Tick
from benchbox.measure.runner import SuiteRun
from benchbox.measure.sampler import Sampler
from benchbox.plan.suite import load_suite
from benchbox.report.files import write_report
from benchbox.report.from_run import report_of_run
suite = Path(os.environ["SUITE"])
out = suite.parent / "out"
with SuiteRun(load_suite(suite), suite.parent, out, device="cpu", resume=False, force=False) as run:
    watched = [os.environ["UUID"]]  # as if it trained there
    run._site.sampler = lambda case: Sampler(50, watched, run._site.nvml)
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
