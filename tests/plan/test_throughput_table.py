from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.errors import BadInputError
from benchbox.plan.device_names import match_device_name
from benchbox.plan.hardware import load_profiles
from benchbox.plan.throughput_table import read_throughput_table
from benchbox.schema import HardwareProfile
from tests.tables import FIELDS, row, write_table

PROFILES = load_profiles([])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"throughput_samples_per_s": "fast"}, "throughput_samples_per_s"),
        ({"throughput_samples_per_s": "nan"}, "throughput_samples_per_s"),
        ({"throughput_samples_per_s": "inf"}, "throughput_samples_per_s"),
        ({"throughput_samples_per_s": -1}, "throughput_samples_per_s"),
        ({"n_gpus": 0}, "n_gpus"),
        ({"n_gpus": 1.5}, "n_gpus"),
        ({"n_gpus": "1e300"}, "n_gpus"),
        ({"batch_per_gpu": "large"}, "batch_per_gpu"),
        ({"model": " "}, "model"),
        ({"quality_flag": "suspect: 17x"}, "quality_flag"),
    ],
)
def test_a_bad_row_is_left_out_and_counted(tmp_path: Path, changes: dict, reason: str) -> None:
    fields = [*FIELDS, "quality_flag"]
    table = read_throughput_table(
        write_table(tmp_path / "t.csv", [row("T4", 1) | {"quality_flag": ""}, row("T4", 2) | changes], fields)
    )
    assert len(table.rows) == 1
    assert [entry.num for entry in table.left_out] == [1]
    assert reason in table.left_out[0].reason
    assert table.left_out[0].example == "line 3"


def test_an_unknown_batch_is_no_batch(tmp_path: Path) -> None:
    table = read_throughput_table(write_table(tmp_path / "t.csv", [row("T4", 1, batch_per_gpu="")]))
    assert table.rows[0].batch_per_device is None


def test_what_else_must_be_equal_is_part_of_the_workload(tmp_path: Path) -> None:
    fields = [*FIELDS, "unit", "memory_layout"]
    rows = [row("T4", 1) | {"unit": "tokens/s", "memory_layout": "nhwc"}]
    table = read_throughput_table(write_table(tmp_path / "t.csv", rows, fields))
    assert table.rows[0].workload == ("nhwc", "tokens/s")
    assert not table.rows[0].rate_counts_samples


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"model,gpu\nx,y\n", "`n_gpus` is missing"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (";".join(FIELDS).encode() + b"\na;b\n", "not separated by commas"),
        ("\t".join(FIELDS).encode() + b"\na\tb\n", "not separated by commas"),
        (",".join(FIELDS).encode() + b"\n", "no usable row"),
        (",".join([*FIELDS, "gpu"]).encode() + b"\nx\n", "`gpu` is there twice"),
        (",".join(FIELDS).encode() + b"\na,b\n", "number of cells"),
        (",".join(FIELDS).encode() + b'\n"a\n', "not valid CSV"),
        (",".join(FIELDS).encode() + b"\n" + b"x" * 200_000 + b"\n", "not valid CSV"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=what) as caught:
        read_throughput_table(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_control_characters_do_not_get_through(tmp_path: Path) -> None:
    table = read_throughput_table(write_table(tmp_path / "t.csv", [row("T4", 1, model="a\x1b[31mb")]))
    assert table.rows[0].model == "a[31mb"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_throughput_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("a100 sxm 80gb", "A100-SXM4-80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("RTX 4090", "RTX 4090"),
        ("RTX4090", "RTX 4090"),
        ("V100-SXM-32GB", "V100-SXM2-32GB"),
        ("Tesla T4", "T4"),
        ("A40", "A40"),
        ("L40", "L40"),
        ("L40S", "L40S"),
        ("H200", "H200-SXM-141GB"),
        ("H100 PCIe", "H100-PCIe-80GB"),
        ("A6000", "RTX A6000"),
        ("A100", None),
        ("A100 80GB", None),
        ("H100 (variant unstated; 80GB)", None),
        ("GTX 1080 Ti", None),
        ("", None),
        ("nvidia", None),
    ],
)
def test_names_as_tables_write_them(name: str, profile: str | None) -> None:
    found = match_device_name(name, PROFILES)
    assert (found.name if isinstance(found, HardwareProfile) else None) == profile


def test_an_ambiguous_name_says_so() -> None:
    assert match_device_name("A100", PROFILES) == "the name fits several hardware profiles"


def test_every_profile_is_found_by_its_own_names() -> None:
    for profile in PROFILES:
        assert match_device_name(profile.name, PROFILES) is profile
