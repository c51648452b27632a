from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchbox.errors import BenchboxError, WouldOverwriteError
from benchbox.measure import hardware_init
from benchbox.measure.hardware_init import profile_from_probe, run_probe, write_profile
from benchbox.plan.hardware import load_profiles, match_profile, read_profile
from benchbox.schema import HostFacts, PrecisionRates, ProbeResult, ReachedRates

TODAY = datetime.date(2026, 3, 4)
HOST = HostFacts(
    cpu_model="AMD EPYC 9999 96-Core Processor",
    num_physical_cores=96,
    num_usable_processors=2,
    memory_total_bytes=64 << 30,
    memory_limit_bytes=None,
    kernel="6.1",
    os="Linux",
    libc="glibc 2.39",
    governor=None,
    cpu_max_mhz=None,
    container=None,
    virtual_machine=None,
)
REACHED = ReachedRates(
    matmul_tflops=PrecisionRates(fp32=1.5, bf16=3.0),
    conv_tflops=PrecisionRates(fp32=1.0),
    copy_gb_per_s=20.0,
    num_threads=2,
)
CPU_RESULT = ProbeResult(
    device_name=None,
    memory_total_bytes=None,
    compute_capability=None,
    num_multiprocessors=None,
    torch="2.13.0",
    reached=REACHED,
)
GPU_RESULT = ProbeResult(
    device_name="NVIDIA Thing 9000",
    memory_total_bytes=(24_000 << 20) + 5,
    compute_capability="13.0",
    num_multiprocessors=200,
    torch="2.13.0",
    reached=REACHED,
)


def stand_in(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Run ``program`` in place of the probe; ``out`` names its result file."""
    real = subprocess.run

    def run(command: list[str], **options: object) -> object:
        out = command[command.index("--out") + 1]
        return real([sys.executable, "-c", f"out = {out!r}\n{program}"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(hardware_init.subprocess, "run", run)


def test_this_cpu_is_probed_for_real_and_then_matches_its_own_profile(tmp_path: Path) -> None:
    result = run_probe("cpu", HOST, seconds_per_probe=0.02)
    assert result.reached.num_threads == HOST.num_usable_processors
    profile = profile_from_probe(result, HOST, TODAY)
    path = write_profile(profile, tmp_path / "made" / "here")
    assert read_profile(path) == profile
    profiles = load_profiles([path.parent])
    assert match_profile(HOST.cpu_model, HOST.memory_total_bytes, profiles, 2) == profile
    assert match_profile(HOST.cpu_model, HOST.memory_total_bytes, profiles, 3) is None


def test_the_controller_never_imports_torch() -> None:
    program = "import benchbox.measure.hardware_init, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_measured_cpu_has_no_vendor_peak() -> None:
    profile = profile_from_probe(CPU_RESULT, HOST, TODAY)
    assert profile.name == "amd-epyc-9999-96-core-processor-2-processors"
    assert (profile.kind, profile.vendor, profile.confidence) == ("cpu", "AMD", "medium")
    assert profile.match_names == (HOST.cpu_model,)
    assert profile.sources == ("measured by benchbox hw init on 2026-03-04, torch 2.13.0",)
    assert profile.peak_dense_tflops == PrecisionRates()
    assert profile.reached == REACHED
    assert profile.num_multiprocessors == 2
    assert profile.memory_gib == 64


def test_a_measured_gpu_has_no_vendor_peak_and_matches_itself() -> None:
    profile = profile_from_probe(GPU_RESULT, HOST, TODAY)
    assert (profile.name, profile.kind, profile.vendor) == ("nvidia-thing-9000", "gpu", "NVIDIA")
    assert profile.peak_dense_tflops == PrecisionRates()
    assert profile.memory_mib_reported == (24_000,)
    assert match_profile("NVIDIA Thing 9000", 24_100 << 20, [profile], 200) == profile
    assert match_profile("NVIDIA Thing 9000", 12_000 << 20, [profile], 200) is None


def test_an_amd_gpu_is_known_by_its_architecture() -> None:
    result = msgspec.structs.replace(GPU_RESULT, device_name="Instinct", compute_capability="gfx942")
    assert profile_from_probe(result, HOST, TODAY).vendor == "AMD"


def test_control_characters_in_a_device_name_do_not_get_into_the_profile(tmp_path: Path) -> None:
    result = msgspec.structs.replace(GPU_RESULT, device_name="../We\x1b[31mird\n")
    profile = profile_from_probe(result, HOST, TODAY)
    path = write_profile(profile, tmp_path)
    assert path.parent == tmp_path
    assert read_profile(path).match_names == ("../We[31mird",)


def test_a_device_without_a_name_cannot_have_a_profile() -> None:
    with pytest.raises(BenchboxError, match="no name"):
        profile_from_probe(CPU_RESULT, msgspec.structs.replace(HOST, cpu_model=""), TODAY)


def test_an_existing_profile_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    profile = profile_from_probe(CPU_RESULT, HOST, TODAY)
    path = write_profile(profile, tmp_path)
    before = path.read_text()
    newer = msgspec.structs.replace(profile, notes="newer")
    with pytest.raises(WouldOverwriteError, match=path.name):
        write_profile(newer, tmp_path)
    assert path.read_text() == before
    assert write_profile(newer, tmp_path, overwrite=True) == path
    assert read_profile(path) == newer
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchboxError, match="cannot be written"):
        write_profile(profile_from_probe(CPU_RESULT, HOST, TODAY), tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("raise RuntimeError('CUDA error: \\x1b[31mbad day')", "RuntimeError: CUDA error: [31mbad day"),
        ("raise SystemExit(3)", "status 3): it printed nothing"),
        ("import os; os.kill(os.getpid(), 11)", "status -11)"),
        ("pass", "cannot be read"),
        ("open(out, 'w').write('{}')", "cannot be read"),
        ("open(out, 'w').write('{')", "cannot be read"),
        ("import time; time.sleep(60)", "not finished after 1 s"),
    ],
)
def test_a_failed_probe_is_one_line(monkeypatch: pytest.MonkeyPatch, program: str, expected: str) -> None:
    if "sleep" in program:
        monkeypatch.setattr(hardware_init, "BASE_TIMEOUT_S", 0.5)
    stand_in(monkeypatch, program)
    with pytest.raises(BenchboxError) as caught:
        run_probe("cpu", HOST, seconds_per_probe=0.025)
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()
