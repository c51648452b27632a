"""Reports are written whole or not at all, and read with suspicion."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from benchbox.errors import BadInputError
from benchbox.report import files
from benchbox.report.files import json_schema, read_report, write_report
from benchbox.schema import SCHEMA_VERSION, Report
from tests.factories import golden_report, hostile_report, make_report

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """A small sound report as plain data."""
    path = tmp_path / "sound.json"
    write_report(golden_report(), path)
    return json.loads(path.read_text())


def refusal(path: Path) -> str:
    """The text with which a report is refused: one printable line that begins with the file's name."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(BadInputError) as caught:
        read_report(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < 1000
    assert caught.value.__cause__ is None
    assert sorted(path.parent.iterdir()) == before
    return text.removeprefix(f"{path}: ")


def refused(tmp_path: Path, data: object) -> str:
    path = tmp_path / "bad.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return refusal(path)


@pytest.mark.parametrize(
    "report", [make_report(), make_report("cpu", complete=False), hostile_report("x\x1b[31m")]
)
def test_round_trip(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_column_of_numbers_stands_on_one_line(tmp_path: Path) -> None:
    write_report(make_report(), tmp_path / "report.json")
    lines = (tmp_path / "report.json").read_text().splitlines()
    steps = [line for line in lines if '"step_time_ns"' in line]
    assert steps
    assert all(line.strip().removesuffix(",").endswith("]") for line in steps)
    json.loads("\n".join(lines))


def test_a_text_that_looks_like_a_column_is_left_alone(tmp_path: Path) -> None:
    report = hostile_report("[\n  1,\n  2\n]")
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_an_old_report_stays_whole_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_report(golden_report(), path)
    before = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(BadInputError, match=r"report\.json: cannot be written: No space left on device"):
        write_report(make_report(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_would_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_report(golden_report(), path)
    before = path.read_bytes()
    monkeypatch.setattr(files, "MAX_REPORT_BYTES", len(before) - 1)
    with pytest.raises(BadInputError, match=r"report\.json: would be larger than .*max_measured_steps"):
        write_report(golden_report(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(files, "MAX_REPORT_BYTES", len(before))
    write_report(golden_report(), path)
    read_report(path)


def test_a_text_that_looks_like_the_list_of_cases_is_left_alone(tmp_path: Path) -> None:
    report = hostile_report('\n "cases": []')
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be written: No such file"):
        write_report(golden_report(), tmp_path / "nowhere" / "report.json")


def test_golden_reports_are_still_read() -> None:
    """A schema change adds a golden file and keeps a reader for the old ones.

    ``python -c "from tests.factories import *; from benchbox.report.files import *; from pathlib import Path;
    write_report(golden_report(), Path('tests/report/golden/report-vN.json'))"`` writes one.
    """
    paths = sorted(GOLDEN.glob("report-v*.json"))
    assert {path.name for path in paths} >= {f"report-v{number + 1}.json" for number in range(SCHEMA_VERSION)}
    for path in paths:
        report = read_report(path)
        assert [result.outcome for result in report.cases] == ["ok", "oom", "invalid"]
        assert report.cases[0].summary is not None
        assert report.cases[0].summary.samples_per_second == pytest.approx(2241.2, rel=1e-3)


def test_the_schema_validates_a_report(plain: dict[str, Any]) -> None:
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(plain)
    assert (schema["title"], schema["version"]) == ("benchbox report", SCHEMA_VERSION)
    plain["cases"][0]["attempts"][0]["duration_s"] = -1
    assert not validator.is_valid(plain)


class TestNotAReport:
    def test_missing(self, tmp_path: Path) -> None:
        assert "No such file" in refusal(tmp_path / "nothing.json")

    def test_a_path_that_cannot_be(self) -> None:
        with pytest.raises(BadInputError, match="null byte"):
            read_report(Path("a\0b.json"))

    @pytest.mark.timeout(10)
    def test_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.json")
        for path in (tmp_path, tmp_path / "pipe.json", Path("/dev/zero")):
            with pytest.raises(BadInputError, match=f"^{path}: not a regular file$"):
                read_report(path)

    @pytest.mark.timeout(10)
    def test_a_device_or_a_pipe_is_never_replaced(self, tmp_path: Path) -> None:
        pipe, link = tmp_path / "pipe", tmp_path / "link"
        os.mkfifo(pipe)
        link.symlink_to(os.devnull)
        device = Path("/dev/benchbox-test")  # /dev/stdout is a file there where a shell sends it to one
        try:
            for path in (pipe, link, device):
                with pytest.raises(BadInputError, match=r"not a regular file, and is left as it is$"):
                    files.write_text("x", path)
            assert not device.exists()
        finally:
            device.unlink(missing_ok=True)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert link.is_symlink()
        assert len(list(tmp_path.iterdir())) == 2  # nothing half written beside them

    def test_truncated(self, tmp_path: Path, plain: dict[str, Any]) -> None:
        whole = json.dumps(plain).encode()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            assert refused(tmp_path, whole[:length]) == "not valid JSON: Input data was truncated"

    def test_not_json(self, tmp_path: Path) -> None:
        assert "not valid JSON" in refused(tmp_path, b"case,samples\n1,2\n")
        assert "not valid JSON" in refused(tmp_path, b"\x89PNG\r\n\x1a\n")

    def test_not_utf8(self, tmp_path: Path) -> None:
        assert "not UTF-8" in refused(tmp_path, b'{"schema_version": 1, "benchbox_version": "\xff"}')

    def test_not_a_number(self, tmp_path: Path, plain: dict[str, Any]) -> None:
        for bad in ("NaN", "Infinity", "-Infinity"):
            plain["cases"][0]["summary"]["power_w"] = float(bad)
            assert "not valid JSON" in refused(tmp_path, plain)

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MAX_REPORT_BYTES", 1 << 20)
        assert refused(tmp_path, b" " * ((1 << 20) + 1)) == "larger than 1 MiB, which no report needs"

    @pytest.mark.parametrize("bracket", ["[", '{"a":'])
    def test_nested_deeply(self, tmp_path: Path, bracket: str, plain: dict[str, Any]) -> None:
        refused(tmp_path, (bracket * 1_000_000).encode())
        text = json.dumps(plain)[:-1] + f', "x": {bracket * 1_000_000}'
        assert "nested too deeply" in refused(tmp_path, text.encode())

    def test_another_kind_of_json(self, tmp_path: Path) -> None:
        assert refused(tmp_path, []) == "expected `object`, got `array`"
        assert refused(tmp_path, {}) == "object missing required field `schema_version`"


class TestVersions:
    def test_a_newer_one_is_refused_before_anything_else_is_looked_at(self, tmp_path: Path) -> None:
        data = {"schema_version": 7, "cases": "now a string", "novelty": {}}
        expected = f"written by a newer benchbox (schema 7; this one reads up to {SCHEMA_VERSION})"
        assert refused(tmp_path, data) == expected

    @pytest.mark.parametrize("version", [0, -1])
    def test_there_was_none_before_the_first(self, tmp_path: Path, version: int) -> None:
        assert "`schema_version`" in refused(tmp_path, {"schema_version": version})

    @pytest.mark.parametrize("version", ["1", None, 1.5, [1]])
    def test_mistyped(self, tmp_path: Path, version: object) -> None:
        assert "`schema_version`: expected `int`" in refused(tmp_path, {"schema_version": version})


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Set what stands at ``path``, as in ``cases.0.attempts.1``."""

    def apply(data: Any) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            data = data[step]
        data[last] = value

    return apply


RANK = "cases.0.attempts.0.ranks.0"
DEVICE = "cases.0.attempts.0.devices.0"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("novelty", 1, "object contains unknown field `novelty`"),
        ("cases.0.case.colour", 1, "`cases[0].case`: object contains unknown field `colour`"),
        ("cases.0.case.seed", "0", "`cases[0].case.seed`: expected `int`, got `str`"),
        ("cases.0.case.precision", "bf61", "allowed: bf16, fp16, fp32, tf32"),
        (
            "cases.1.outcome",
            "melted",
            "`cases[1].outcome`: invalid enum value 'melted'; allowed: crashed, invalid,",
        ),
        (
            f"{RANK}.step_time_ns.3",
            -5,
            "`cases[0].attempts[0].ranks[0].step_time_ns[3]`: expected `int` >= 0",
        ),
        ("cases.0.attempts.0.duration_s", -0.5, "`cases[0].attempts[0].duration_s`: expected `float` >= 0"),
        ("environment.worker_variables.X", 1, "expected `str`, got `int`"),
        (f"{RANK}.step_time_ns.3", 10**400, f"`{RANK}.step_time_ns[3]`: expected `int` <= 922"),
        ("cases.0.case.seed", 1, "`cases[0].case`: differs from suite.cases[0]"),
        ("cases.1.case.case_id", "SAME", "`cases[1].case.case_id`: 'SAME' is cases[0] already"),
        (
            "cases.0.attempts.1.case_id",
            "ffffffffffff",
            "`cases[0].attempts[1].case_id`: 'ffffffffffff', but the case",
        ),
        ("cases.0.attempts.1.attempt", 0, "`cases[0].attempts[1].attempt`: number 0 is there already"),
        ("cases.1.outcome", "ok", "`cases[1].outcome`: 'ok', but its attempts ended as 'oom'"),
        (f"{DEVICE}.power_w", [1.0], f"`{DEVICE}.power_w`: 1 values, but sample_at_ns has"),
        ("cases.0.attempts.0.host.load_1min", [], "`cases[0].attempts[0].host.load_1min`: 0 values"),
        (f"{DEVICE}.sample_at_ns.1", 0, f"`{DEVICE}.sample_at_ns[1]`: earlier than the sample before it"),
        (f"{RANK}.windows.0.num_steps", 3, f"`{RANK}.windows`: 3 steps, but step_time_ns has"),
        (f"{RANK}.windows.0.end_at_ns", 3, f"`{RANK}.windows[0].end_at_ns`: before start_at_ns"),
        ("cases.0.summary.samples_per_second_interval", {"low": 3, "high": 2}, "3 to 2 is no interval"),
        ("cases.0.attempts.0.ranks", [], "`cases[0].attempts[0].ranks`: none, but the attempt is ok"),
        (f"{RANK}.step_time_ns", [], f"`{RANK}.step_time_ns`: no step took any time, but the attempt is ok"),
        (f"{RANK}.step_time_ns", [0] * 9, f"`{RANK}.step_time_ns`: no step took any time"),
        ("cases.0.attempts", [], "but its attempts ended as 'nothing yet'"),
        ("cases", [], "`cases`: 0 cases, but the suite has 3"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, plain: dict[str, Any], path: str, value: object, expected: str
) -> None:
    if value == "SAME":
        plain["cases"][0]["case"]["case_id"] = "SAME"
    change(path, value)(plain)
    # Places are written as in `cases[0]`.
    bracketed = expected.replace(".0", "[0]") if "cases.0" in expected else expected
    assert bracketed in refused(tmp_path, plain)


def test_a_summary_needs_an_attempt_that_is_ok(tmp_path: Path, plain: dict[str, Any]) -> None:
    plain["cases"][1]["summary"] = plain["cases"][0]["summary"]
    assert "`cases[1].summary`: figures without an attempt that is ok" in refused(tmp_path, plain)


def test_a_hostile_key_cannot_reach_the_terminal(tmp_path: Path, plain: dict[str, Any]) -> None:
    plain["\x1b]0;owned\x07\nsecond line" + "x" * 100_000] = 1
    assert "unknown field `]0;owned" in refused(tmp_path, plain)
