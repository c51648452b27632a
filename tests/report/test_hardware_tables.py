from __future__ import annotations

import io

from rich.console import Console, RenderableType

from benchbox.plan.hardware import find_profile, load_profiles
from benchbox.report.hardware import DetectedDevice, detected_table, list_table, profile_table
from benchbox.schema import HardwareProfile, PrecisionRates, ReachedRates

PROFILES = load_profiles([])


def shown(renderable: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def hostile() -> HardwareProfile:
    return HardwareProfile(
        name="[red]na\x1b[2Jme[/]",
        kind="cpu",
        vendor="[/nonsense]",
        match_names=("[link=x]m",),
        sources=("a\nb",),
        confidence="low",
        notes="[bold]n",
        num_multiprocessors=8,
        reached=ReachedRates(
            matmul_tflops=PrecisionRates(fp32=0.3537),
            conv_tflops=PrecisionRates(bf16=1.772),
            copy_gb_per_s=26.89,
            host_to_device_gb_per_s=12.0,
            num_threads=8,
        ),
    )


def test_the_list_has_a_line_for_each_profile_within_80_columns() -> None:
    lines = shown(list_table(PROFILES)).splitlines()
    assert max(map(len, lines)) <= 80
    for profile in PROFILES:
        (line,) = [line for line in lines if line.strip().startswith(profile.name + "  ")]
        assert profile.confidence in line
    (h100,) = [line for line in lines if "H100-SXM5-80GB" in line]
    assert " ".join(h100.split()) == "H100-SXM5-80GB 66.9 494.7 989.4 989.4 80 3350 700 high"
    (t4,) = [line for line in lines if line.split()[:1] == ["T4"]]
    assert " ".join(t4.split()) == "T4 8.1 – – 65 16 320 70 high"


def test_a_profile_is_shown_in_full_with_units() -> None:
    text = " ".join(shown(profile_table(find_profile("rtx 3090", PROFILES)), width=400).split())
    for expected in (
        *("dense peak fp16 71.2 TFLOP/s", "memory 24 GiB", "memory bandwidth 936 GB/s", "multiprocessors 82"),
        *("boost clock 1695 MHz", "power limit (TDP) 350 W", "NVLink, both directions 112.5 GB/s"),
        *("memory, as reported 24265, 24576 MiB", "confidence high", "non-tensor rate", "fp16 accumulation"),
        "derived: SMs x FMA/clk/SM x 2 x boost clock",
    ):
        assert expected in text
    assert "fp8" not in text
    assert "None" not in text


def test_what_was_measured_is_shown_with_units() -> None:
    text = " ".join(shown(profile_table(hostile()), width=200).split())
    assert "processors 8" in text
    assert "reached, matmul fp32 0.3537 TFLOP/s" in text
    assert "reached, conv bf16 1.772 TFLOP/s" in text
    assert "reached, copy (read + written) 26.89 GB/s" in text
    assert "reached, host to device 12 GB/s" in text
    assert "dense peak" not in text


def test_nothing_in_a_profile_is_read_as_markup_or_moves_the_cursor() -> None:
    device = DetectedDevice("[blink]dev\x07", None, hostile())
    for renderable in (list_table([hostile()]), profile_table(hostile()), detected_table([device])):
        text = shown(renderable, width=200)
        assert "[red]na[2Jme[/]" in text
        assert "\x1b" not in text
        assert "\x07" not in text
    assert "a b" in shown(profile_table(hostile()))
    assert "[blink]dev" in text


def test_detected_devices_come_with_their_profiles() -> None:
    l4 = find_profile("L4", PROFILES)
    text = shown(detected_table([DetectedDevice("NVIDIA L4", 23034 << 20, l4)]))
    assert ["NVIDIA", "L4", "22.5", "GiB", "L4", "no"] in [line.split() for line in text.splitlines()]
    assert "hw init" not in text


def test_an_unknown_device_comes_with_a_hint() -> None:
    text = shown(detected_table([DetectedDevice("Some CPU", None, None)]))
    assert ["Some", "CPU", "–", "none", "no"] in [line.split() for line in text.splitlines()]
    assert "benchbox hw init" in text
