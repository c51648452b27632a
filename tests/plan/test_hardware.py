from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import benchbox
from benchbox.errors import BadInputError, BenchboxError
from benchbox.plan import hardware, shipped
from benchbox.plan.hardware import load_profiles, match_profile, profile_to_toml, read_profile
from benchbox.schema import HardwareProfile, PrecisionRates, ReachedRates

MIB = 1 << 20
PROFILES = load_profiles([])
BY_NAME = {profile.name: profile for profile in PROFILES}
GPUS_WITH_TENSOR_PEAK = [profile for profile in PROFILES if profile.peak_dense_tflops.fp16 is not None]


def profile(**changes: object) -> HardwareProfile:
    facts: dict[str, object] = {
        "name": "dev",
        "kind": "gpu",
        "vendor": "Maker",
        "architecture": None,
        "match_names": ("Maker Dev",),
        "sources": ("a book",),
        "confidence": "low",
    }
    return HardwareProfile(**(facts | changes))  # type: ignore[arg-type]


def measured(copy_gb_per_s: float) -> ReachedRates:
    return ReachedRates(
        matmul_tflops=PrecisionRates(fp32=1.0),
        conv_tflops=PrecisionRates(),
        copy_gb_per_s=copy_gb_per_s,
        host_to_device_gb_per_s=None,
    )


# --- the shipped facts -------------------------------------------------------------------------------------

# Dense fp16 operations (a multiply and an add are two) that the tensor cores of one multiprocessor do in a
# clock, accumulating in fp32. NVIDIA's architecture white papers; CDNA: AMD's.
FP16_OPERATIONS_PER_CLOCK = {
    "7.0": 1024,
    "7.5": 1024,
    "8.0": 2048,
    "8.6": 1024,
    "8.9": 1024,
    "9.0": 4096,
    "10.0": 8192,
    "gfx90a": 1024,
    "gfx942": 2048,
}
HALF_RATE = {
    "RTX 3090": "GeForce: accumulating in fp32 halves the rate",
    "RTX 4090": "GeForce: accumulating in fp32 halves the rate",
    "RTX 5090": "GeForce: accumulating in fp32 halves the rate",
    "A10G": "halved against the A10 by AWS's own figures",
    "L40": "the datasheet says 181, arithmetic 362: low confidence, the smaller is adopted",
}
FP16_OPERATIONS_PER_CLOCK_BY_NAME = {"RTX 5090": 1024}
# The vendor computed the tensor peak with another clock than the boost clock it lists.
TENSOR_CLOCK_MHZ = {
    "H100-SXM5-80GB": 1830,
    "H200-SXM-141GB": 1830,
    "GH200-96GB": 1830,
    "GH200-144GB": 1830,
    "H100-PCIe-80GB": 1620,
    "H100-NVL-94GB": 1545,
    "H200-NVL-141GB": 1553,
    "B200-SXM-180GB": 1856,
}


@pytest.mark.parametrize("gpu", GPUS_WITH_TENSOR_PEAK, ids=lambda gpu: gpu.name)
def test_tensor_peaks_are_multiprocessors_times_operations_times_clock(gpu: HardwareProfile) -> None:
    operations = (
        FP16_OPERATIONS_PER_CLOCK_BY_NAME.get(gpu.name)
        or FP16_OPERATIONS_PER_CLOCK[gpu.compute_capability or ""]
    )
    if gpu.name in HALF_RATE:
        operations //= 2
    assert gpu.num_multiprocessors is not None
    assert gpu.boost_clock_mhz is not None
    clock = TENSOR_CLOCK_MHZ.get(gpu.name, gpu.boost_clock_mhz)
    assert clock <= gpu.boost_clock_mhz
    fp16 = gpu.num_multiprocessors * operations * clock * 1e-6
    peaks = gpu.peak_dense_tflops
    # 1.25 %: the L40S's 362 stands for a clock of 2490 MHz, its other figures for 2520; the rest is rounding.
    for peak, expected in (
        (peaks.fp16, fp16),
        (peaks.bf16, fp16),
        (peaks.tf32, fp16 / 2),
        (peaks.fp8, fp16 * 2),
    ):
        assert peak is None or peak == pytest.approx(expected, rel=0.0125)


def test_profiles_without_a_tensor_peak_are_few_and_known() -> None:
    assert set(BY_NAME) - {gpu.name for gpu in GPUS_WITH_TENSOR_PEAK} == {"RTX PRO 6000 Blackwell"}
    assert len(PROFILES) == 33


# Their sources disagree by a tenth, as the profiles' notes say.
FP32_DISPUTED = {"A10G", "B200-SXM-180GB"}


@pytest.mark.parametrize(
    "gpu", [gpu for gpu in PROFILES if gpu.name not in FP32_DISPUTED], ids=lambda gpu: gpu.name
)
def test_fp32_peaks_are_multiprocessors_times_operations_times_clock(gpu: HardwareProfile) -> None:
    assert gpu.num_multiprocessors is not None
    assert gpu.boost_clock_mhz is not None
    fp32 = gpu.peak_dense_tflops.fp32
    candidates = [gpu.num_multiprocessors * n * gpu.boost_clock_mhz * 1e-6 for n in (128, 256)]
    assert any(fp32 == pytest.approx(candidate, rel=0.015) for candidate in candidates)


def test_no_sparse_figure_appears() -> None:
    sparse = {
        "A100-SXM4-80GB": 624,
        "A40": 299.4,
        "H100-SXM5-80GB": 1979,
        "H200-SXM-141GB": 1979,
        "L40S": 733,
    }
    for name, figure in sparse.items():
        peaks = BY_NAME[name].peak_dense_tflops
        assert max(peaks.bf16 or 0, peaks.fp16 or 0, 2 * (peaks.tf32 or 0)) < 0.6 * figure
    for gpu in GPUS_WITH_TENSOR_PEAK:
        peaks = gpu.peak_dense_tflops
        assert peaks.bf16 in (None, peaks.fp16)


def test_every_shipped_profile_states_where_it_comes_from() -> None:
    for gpu in PROFILES:
        assert gpu.sources
        assert gpu.reached is None, "measured by others belongs into the notes"
        assert gpu.memory_gib
        assert gpu.memory_bandwidth_gb_per_s


def test_no_two_shipped_profiles_can_match_one_device() -> None:
    assert len(BY_NAME) == len(PROFILES)
    for one, other in itertools.combinations(PROFILES, 2):
        names = {name.casefold() for name in one.match_names} & {
            name.casefold() for name in other.match_names
        }
        if names:
            low, high = sorted((one, other), key=lambda gpu: gpu.memory_gib or 0)
            assert (low.memory_gib or 0) * hardware.MAX_MEMORY_SHARE < (
                high.memory_gib or 0
            ) * hardware.MIN_MEMORY_SHARE, (one.name, other.name, names)


def test_every_shipped_profile_is_found_by_each_of_its_names_and_memories() -> None:
    for gpu in PROFILES:
        assert gpu.memory_gib is not None
        totals = gpu.memory_mib_reported or (round(gpu.memory_gib * 1024 * 0.93),)
        for name, total in itertools.product(gpu.match_names, totals):
            assert match_profile(name, total * MIB, PROFILES, gpu.num_multiprocessors) is gpu


def test_file_names_are_the_profiles_names_as_slugs() -> None:
    for path in shipped.shipped_dir("hw_profiles").glob("*.toml"):
        slug = "".join(c if c.isalnum() else "-" for c in read_profile(path).name.lower())
        assert path.stem == slug.replace("--", "-").strip("-")


# --- matching ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "memory_mib", "expected"),
    [
        ("NVIDIA L4", 23034, "L4"),
        ("nvidia l4", 23034, "L4"),
        ("NVIDIA L40", 46068, "L40"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("NVIDIA L4", 46068, None),
        ("L4", 23034, None),
        ("NVIDIA L40G", 24000, None),
        ("Tesla T4", 15109, "T4"),
        ("Tesla V100-SXM2-16GB", 16160, "V100-SXM2-16GB"),
        ("Tesla V100-SXM2-32GB", 32510, "V100-SXM2-32GB"),
        ("Tesla V100-SXM2-32GB-LS", 32510, None),
        ("NVIDIA A100-SXM4-40GB", 40536, "A100-SXM4-40GB"),
        ("NVIDIA A100-SXM4-80GB", 81251, "A100-SXM4-80GB"),
        ("NVIDIA A100-SXM4-80GB", 40536, None),
        ("NVIDIA A100 80GB PCIe", 81920, "A100-PCIe-80GB"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864, None),
        ("NVIDIA A100-SXM4-40GB", 4864, None),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-SXM5-80GB"),
        ("NVIDIA H100 80GB HBM3", 81089, "H100-SXM5-80GB"),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", 95830, "H100-NVL-94GB"),
        ("NVIDIA H100", 81559, None),
        ("NVIDIA H200", 143771, "H200-SXM-141GB"),
        ("NVIDIA H200 NVL", 143771, "H200-NVL-141GB"),
        ("NVIDIA H100 80GB HBM3", None, None),
        ("", 81559, None),
    ],
)
def test_names_match_whole_and_memory_tells_variants_apart(
    device: str, memory_mib: int | None, expected: str | None
) -> None:
    total = None if memory_mib is None else memory_mib * MIB
    found = match_profile(device, total, PROFILES)
    assert (found.name if found else None) == expected


def test_a_gpu_with_other_multiprocessors_is_another_device() -> None:
    assert match_profile("NVIDIA A100-SXM4-40GB", 40192 * MIB, PROFILES, 98) is None
    assert match_profile("NVIDIA A100-SXM4-40GB", 40192 * MIB, PROFILES, 108) is not None


def test_a_cpu_matches_by_model_and_usable_processors() -> None:
    cpu = profile(kind="cpu", match_names=("Some CPU @ 2.0GHz",), num_multiprocessors=8, memory_gib=16)
    assert match_profile("some cpu @ 2.0ghz", 999 * MIB, [cpu], 8) is cpu
    assert match_profile("Some CPU @ 2.0GHz", 16 << 30, [cpu], 4) is None
    assert match_profile("Some CPU @ 2.0GHz", 16 << 30, [cpu]) is None


def test_the_users_measurement_joins_the_shipped_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = hardware.user_profiles_dir()
    assert folder == tmp_path / "benchbox" / "hw_profiles"
    assert load_profiles() == PROFILES
    folder.mkdir(parents=True)
    own = profile(match_names=("NVIDIA L4",), memory_gib=22.5, reached=measured(250.0))
    (folder / "l4.toml").write_text(profile_to_toml(own))
    found = match_profile("NVIDIA L4", 23034 * MIB, load_profiles())
    assert found == msgspec.structs.replace(BY_NAME["L4"], reached=measured(250.0))


def test_the_users_profile_of_an_unknown_device_is_found(tmp_path: Path) -> None:
    own = profile(reached=measured(100.0))
    (tmp_path / "dev.toml").write_text(profile_to_toml(own))
    assert match_profile("Maker Dev", None, load_profiles([tmp_path])) == own


def test_a_relative_config_folder_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hardware.user_profiles_dir() == tmp_path / ".config" / "benchbox" / "hw_profiles"


# --- reading what others wrote -----------------------------------------------------------------------------

GOOD = """\
name = "dev"
kind = "gpu"
vendor = "Maker"
match_names = ["Maker Dev"]
sources = ["a book"]
confidence = "low"
memory_gib = 8.0
"""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD + "colour = 3\n", "colour"),
        (GOOD.replace("memory_gib = 8.0", 'memory_gib = "8"'), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_gib = -8.0"), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_gib = 0"), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_gib = inf"), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_gib = nan"), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_gib = true"), "memory_gib"),
        (GOOD.replace("memory_gib = 8.0", "memory_mib_reported = [1, 0]"), "memory_mib_reported[1]"),
        (GOOD.replace('"gpu"', '"tpu"'), "kind"),
        (GOOD.replace('"low"', '"certain"'), "confidence"),
        (GOOD.replace('"Maker Dev"', '"\\u001b[31mDev"'), "match_names[0]"),
        (GOOD.replace('"dev"', '"de\\nv"'), "name"),
        (GOOD.replace('"dev"', '""'), "name"),
        (GOOD.replace('"Maker Dev"', '""'), "match_names"),
        (GOOD.replace('"Maker Dev"', ""), "match_names"),
        (GOOD.replace('vendor = "Maker"', ""), "vendor"),
        (GOOD + "[peak_dense_tflops]\nbf16 = inf\n", "peak_dense_tflops.bf16"),
        (GOOD + "[peak_dense_tflops]\nfp16_sparse = 1.0\n", "fp16_sparse"),
        (GOOD + '"\\u001b[2J' + "x" * 100_000 + '" = 1\n', "unknown field"),
        (GOOD + "a." * 10_000 + "b = 1\n", "line 8: more than 500 dots"),
    ],
)
def test_a_bad_profile_gets_one_line_that_names_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "dev.toml"
    path.write_text(text)
    with pytest.raises(BadInputError) as caught:
        read_profile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert key in message
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfe", b"name = ", b"#" * (1 << 20) + b"#", b"a = " + b"[" * 20_000, b"a = '\x1b'"],
    ids=["not UTF-8", "not TOML", "huge", "nested deeply", "raw control character"],
)
def test_an_unreadable_profile_gets_one_line_that_names_the_file(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "dev.toml"
    path.write_bytes(raw)
    with pytest.raises(BadInputError) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_the_profile_that_the_bad_ones_start_from_is_good(tmp_path: Path) -> None:
    (tmp_path / "dev.toml").write_text(GOOD)
    assert read_profile(tmp_path / "dev.toml") == profile(memory_gib=8.0)


def test_a_missing_profile_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.toml"):
        read_profile(tmp_path / "none.toml")


def test_missing_shipped_files_ask_for_a_new_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchbox, "__file__", str(tmp_path / "benchbox" / "__init__.py"))
    with pytest.raises(BenchboxError, match="install benchbox again"):
        shipped.shipped_dir("hw_profiles")
    packaged = tmp_path / "benchbox" / "_shipped" / "hw_profiles"
    packaged.mkdir(parents=True)
    assert shipped.shipped_dir("hw_profiles") == packaged


# --- writing -----------------------------------------------------------------------------------------------

printable_text = st.text(st.characters(codec="utf-8")).map(hardware.printable)
name_text = printable_text.filter(bool)
positive = st.floats(min_value=0, exclude_min=True, max_value=1e17)
rates = st.builds(
    PrecisionRates,
    **{key: st.none() | positive for key in ("fp32", "tf32", "bf16", "fp16", "fp8")},
)
counts = st.integers(min_value=1, max_value=1 << 40)


@given(
    written=st.builds(
        HardwareProfile,
        name=name_text,
        kind=st.sampled_from(["gpu", "cpu"]),
        vendor=printable_text,
        architecture=st.none() | printable_text,
        match_names=st.lists(name_text, min_size=1, max_size=3).map(tuple),
        sources=st.lists(printable_text, max_size=3).map(tuple),
        confidence=st.sampled_from(["high", "medium", "low"]),
        peak_dense_tflops=rates,
        memory_gib=st.none() | positive,
        memory_mib_reported=st.lists(counts, max_size=3).map(tuple),
        num_multiprocessors=st.none() | counts,
        reached=st.none()
        | st.builds(
            ReachedRates,
            matmul_tflops=rates,
            conv_tflops=rates,
            copy_gb_per_s=st.none() | positive,
            host_to_device_gb_per_s=st.none() | positive,
            num_threads=st.none() | counts,
        ),
        notes=printable_text,
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: HardwareProfile
) -> None:
    path = tmp_path_factory.getbasetemp() / "profile.toml"
    path.write_text(profile_to_toml(written), encoding="utf-8")
    assert read_profile(path) == written


# --- finding by name ---------------------------------------------------------------------------------------


def test_a_profile_is_found_by_name_without_regard_to_case() -> None:
    assert hardware.find_profile("l4", PROFILES) is BY_NAME["L4"]
    assert hardware.find_profile("nvidia l4", PROFILES) is BY_NAME["L4"]  # as the driver calls it
    shadow = profile(name="L4")
    assert hardware.find_profile("L4", (*PROFILES, shadow)) is BY_NAME["L4"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("h100", "H100-SXM5-80GB or H100-PCIe-80GB or H100-NVL-94GB"),
        ("A100-SXM-40GB", "A100-SXM4-40GB"),
        ("h1oo", "H100-SXM5-80GB or H100-PCIe-80GB or H100-NVL-94GB"),
        ("NVIDIA A100 80GB", "A100-PCIe-80GB or A100-SXM4-80GB"),
        ("zzz", "hw list"),
        ("", "hw list"),
        ("\x1b" + "x" * 9999, "hw list"),
    ],
)
def test_an_unknown_name_gets_names_that_look_alike(name: str, hint: str) -> None:
    with pytest.raises(BadInputError) as caught:
        hardware.find_profile(name, sorted(PROFILES, key=lambda gpu: gpu.name, reverse=True))
    assert all(part in str(caught.value) for part in hint.split(" or "))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
