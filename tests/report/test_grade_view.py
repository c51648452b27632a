from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchbox.cli import app
from benchbox.errors import BadInputError
from tests.tables import row, synthetic_rows, write_table

LAST_LINE = r"all: median \d+\.\d % p80 \d+\.\d % worst \d+\.\d % coverage \d+\.\d %"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [*synthetic_rows(), row("GTX 1080 Ti", 100), row("A100", 100), row("T4", "?")]
    return write_table(tmp_path / "rates.csv", rows)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["grade", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_the_last_line_is_for_scripts(table: Path, form: str) -> None:
    text = run(str(table), "--format", form)
    assert re.fullmatch(LAST_LINE, text.rstrip("\n").rpartition("\n")[2])
    for word in ("no hardware profile", "fits several", "no positive number", "peak FLOP/s", "coverage"):
        assert word in text


def test_the_terminal_keeps_to_80_columns(table: Path) -> None:
    assert max(map(len, run(str(table)).splitlines())) <= 80


def test_json_has_every_pair_and_the_counts(table: Path) -> None:
    result = json.loads(run(str(table), "--format", "json"))
    assert result["num_rows"] == 45
    assert result["num_rows_graded"] == 42
    assert sum(entry["num"] for entry in result["rows_left_out"]) == 3
    assert len(result["pairs"]) == result["overall"]["num_pairs"]
    by_step = [g["figures"]["num_pairs"] for g in result["groups"] if g["grouped_by"] == "step"]
    assert sum(by_step) == result["overall"]["num_pairs"]


def test_csv_has_a_row_a_pair_and_no_formula(tmp_path: Path) -> None:
    rows = [row("A100-SXM4-80GB", 1, model="=1+1"), row("L40S", 1, model="=1+1")]
    text = run(str(write_table(tmp_path / "t.csv", rows)), "--format", "csv")
    cells = list(csv.DictReader(io.StringIO(text)))
    assert len(cells) == 2
    assert {one["model"] for one in cells} == {"'=1+1"}


def test_markup_in_a_table_stays_text(tmp_path: Path) -> None:
    rows = [row(gpu, 1, model="[red]<b>|x") for gpu in ("A100-SXM4-80GB", "L40S")]
    path = write_table(tmp_path / "t.csv", rows)
    assert "[red]<b>|x" in run(str(path))
    assert r"\[red\]\<b\>\|x" in run(str(path), "--format", "markdown")


@pytest.mark.parametrize("content", ["", "model,gpu\n", None])
def test_bad_tables_are_one_line_and_exit_2(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "t.csv"
    if content is None:
        write_table(path, [row("A100-SXM4-80GB", 1), row("L40S", 1, model="another")])
    else:
        path.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "benchbox.cli", "grade", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "t.csv" in done.stderr


def test_what_is_left_out_is_named_with_the_nearest_profile(table: Path) -> None:
    entries = json.loads(run(str(table), "--format", "json"))["rows_left_out"]
    examples = {entry["reason"]: entry["example"] for entry in entries}
    assert examples["no hardware profile"].startswith("GTX 1080 Ti")
    assert examples["the name fits several hardware profiles"].startswith("A100, nearest: A100-")


def rendered(table: Path, text: bytes) -> str:
    table.write_bytes(text)
    return run(str(table), "--format", "json")


def test_how_a_spreadsheet_writes_the_table_does_not_matter(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", synthetic_rows())
    plain = path.read_text("utf-8").replace("\r\n", "\n")
    wanted = run(str(path), "--format", "json")
    lines = [line.split(",") for line in plain.splitlines()]
    for other in (
        "\ufeff" + plain.replace("\n", "\r\n"),
        plain.rstrip("\n"),
        "\n".join(" , ".join(cells) for cells in lines),
        "\n".join(",".join(reversed(cells)) for cells in lines),
        "\n".join(
            ",".join(cells).upper() if place == 0 else ",".join(cells) for place, cells in enumerate(lines)
        ),
        "\n".join(",".join([*cells, "x"]) for cells in lines),
    ):
        assert rendered(path, other.encode()) == wanted


def test_unknown_devices_do_not_spoil_the_others(tmp_path: Path) -> None:
    known = run(str(write_table(tmp_path / "t.csv", synthetic_rows())), "--format", "json")
    rows = [*synthetic_rows(), *(row(f"Future GPU {n}", 1e3, model="net1") for n in range(50))]
    result = json.loads(run(str(write_table(tmp_path / "t.csv", rows)), "--format", "json"))
    assert result["overall"] == json.loads(known)["overall"]
    assert [entry["num"] for entry in result["rows_left_out"]] == [50]
    assert "49 other names" in result["rows_left_out"][0]["example"]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row("A100-SXM4-80GB", 600)] * 3, "no two devices"),
        ([row("Future GPU", 600), row("L4OS", 600)], "no hardware profile"),
        ([row("A100-SXM4-80GB", 600), row("MI300X", 600)], "different vendors"),
        ([row("A100-SXM4-80GB", 600), row("A100-SXM4-80GB", 60), row("L40S", 1)], "no two devices"),
        ([row("A100-SXM4-80GB", 600), row("L40S", -1)], "no two devices.*no positive number .line 3"),
    ],
)
def test_a_table_of_which_nothing_can_be_graded_says_why(tmp_path: Path, rows: list[dict], why: str) -> None:
    done = CliRunner().invoke(app, ["grade", str(write_table(tmp_path / "t.csv", rows))])
    assert isinstance(done.exception, BadInputError)
    assert re.search(why, str(done.exception))
    assert "\n" not in str(done.exception)
    assert done.stdout == ""
