"""What a report with several ranks shows, and what of it must fit together."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from benchbox.errors import BadInputError
from benchbox.report import figures
from benchbox.report.csvfile import render_csv
from benchbox.report.files import read_report, write_report
from benchbox.report.hints import case_hints
from benchbox.report.markdown import render_markdown
from benchbox.schema import Report, Scaling
from tests.factories import UUIDS, make_ranks_report, make_report
from tests.report.test_render import EXTREME, HOSTILE, figure_texts, terminal, with_summary

FSDP = 5  # the case with a straggler


def section(report: Report, title: str) -> list[str]:
    """The lines of one section of the Markdown."""
    _, _, after = render_markdown(report).partition(f"## {title}\n")
    return after.partition("\n## ")[0].strip().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


class TestTerminal:
    @pytest.mark.parametrize("device", ["cuda", "cpu"])
    @pytest.mark.parametrize("extreme", [False, True])
    @pytest.mark.parametrize("width", [80, 100, 140, 200])
    def test_fits_with_every_figure(self, device: str, extreme: bool, width: int) -> None:
        report = make_ranks_report(device)
        if extreme:
            report = with_summary(report, **EXTREME, communication_share=-1.2345)
        lines = terminal(report, width)
        assert max(map(cell_len, lines)) <= width
        shown = " ".join(lines)
        for text in figure_texts(report):
            assert text in shown
        for title in ("comm.", "weak eff.", "strong eff."):
            assert title in shown
        assert "…" not in shown

    def test_throughput_memory_communication_and_efficiency_side_by_side(self) -> None:
        (row,) = [line for line in terminal(make_ranks_report("cpu"), 150) if "b32 fp32 ddp x2" in line][:1]
        assert re.fullmatch(
            r"reference-cnn b32 fp32 ddp x2 .* 59\.91 .* 3\.40 GiB +30\.0 % +80\.2 % +67\.3 % +ok", row
        )

    def test_columns_of_ranks_only_where_a_case_has_several(self) -> None:
        for report in (make_report(), make_report("cpu")):
            shown = "\n".join(terminal(report, 80)) + render_markdown(report)
            for text in ("comm.", "weak", "strong", "## Ranks", "## Scaling", "communication share"):
                assert text not in shown

    def test_the_notes_say_what_the_columns_are(self) -> None:
        shown = " ".join(terminal(make_ranks_report(), 400))
        assert figures.RANKS in shown
        assert figures.RANKS_OF_A_CPU not in shown
        assert figures.RANKS_OF_A_CPU in " ".join(terminal(make_ranks_report("cpu"), 400))

    def test_a_straggler_is_named_in_words(self) -> None:
        report = make_ranks_report()
        said = (
            f"hint  reference-cnn b32 fp32 fsdp2 x2: rank 1 is a straggler (node 0, {UUIDS[1]}): its own "
            "work takes 17.8 ms, the middle rank's 14.8 ms, and the others wait for it"
        )
        assert said in " ".join(terminal(report, 400))
        assert "rank 1 is a straggler" in render_markdown(report)
        assert "straggler" not in render_markdown(make_ranks_report(slow_rank=False))

    def test_a_communication_pass_of_other_steps_is_told(self) -> None:
        report = make_ranks_report()
        result = report.cases[FSDP]
        first = result.attempts[0]
        ranks = tuple(
            replace(rank, step_time_ns=tuple(2 * time_ns for time_ns in rank.step_time_ns))
            for rank in first.ranks
        )
        changed = replace(result, attempts=(replace(first, ranks=ranks), *result.attempts[1:]))
        assert case_hints(changed)[1] == (
            "in the communication pass a step took 21.2 ms, as measured 42.6 ms: its share and its rate are "
            "of different steps"
        )
        assert not any("in the communication pass" in hint for hint in case_hints(result))


class TestMarkdown:
    def test_one_row_a_rank(self) -> None:
        rows = [cells(line) for line in section(make_ranks_report(), "Ranks") if line.startswith("| ref")]
        adam = "torch.optim.Adam(fused=True)"
        assert [row[1:5] for row in rows] == [
            ["0", "0", "GPU 0", adam],  # zero1 on one device
            *[["0", "0", "GPU 0", adam], ["1", "0", "GPU 1", adam]] * 2,
            ["0", "0", "GPU 0", adam],
            ["1 (straggler)", "0", "GPU 1", adam],
        ]
        assert rows[0][5:] == ["16.1 ms", "–", "–", "3.86 GiB"]
        assert rows[-2][6:8] == ["14.8 ms", "–"]
        assert rows[-1][5:] == ["21.3 ms", "17.8 ms", "20.0 %", "3.86 GiB"]

    def test_peak_memory_of_a_rank_on_a_cpu_is_its_process(self) -> None:
        rows = [
            cells(line) for line in section(make_ranks_report("cpu"), "Ranks") if line.startswith("| ref")
        ]
        assert {row[3] for row in rows} == {"cpu"}
        assert {row[-1] for row in rows} == {"3.40 GiB"}

    def test_a_device_of_another_machine_keeps_its_own_name(self) -> None:
        report = make_ranks_report()
        alone = replace(
            report, environment=replace(report.environment, devices=report.environment.devices[:1])
        )
        assert UUIDS[1] in " ".join(section(alone, "Ranks"))

    def test_efficiency_with_its_interval_and_baseline(self) -> None:
        (row,) = [cells(line) for line in section(make_ranks_report(), "Scaling") if "ddp" in line]
        assert row[1] == "80.2 %"
        assert re.fullmatch(r"79\.\d % to 81\.\d %", row[2])
        assert row[3] == "reference-cnn b32 fp32"
        assert row[4] == "67.4 %"
        assert row[6] == "reference-cnn b64 fp32"

    def test_exposed_time_beside_bytes_and_bandwidth(self) -> None:
        (row,) = [cells(line) for line in section(make_ranks_report(), "Communication") if "fsdp2" in line]
        assert row[1] == "2 (W - 1) / W x gradients in fp32"
        assert row[2] == "16.0 %"
        assert row[4:] == ["21.2 ms", "17.8 ms", "731 MiB", "226 GB/s", "75.5 %"]
        assert "All-reduces alone reached 300 GB/s among 2 ranks." in section(
            make_ranks_report(), "Communication"
        )

    def test_where_no_all_reduce_was_timed_the_share_is_unknown(self) -> None:
        report = make_ranks_report()
        untimed = replace(
            report,
            cases=tuple(
                replace(
                    result,
                    attempts=tuple(
                        replace(attempt, ranks=tuple(replace(rank, all_reduce=()) for rank in attempt.ranks))
                        for attempt in result.attempts
                    ),
                )
                for result in report.cases
            ),
        )
        (row,) = [cells(line) for line in section(untimed, "Communication") if "fsdp2" in line]
        assert row[-2:] == ["226 GB/s", "–"]
        assert not any("alone reached" in line for line in section(untimed, "Communication")[-2:])

    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_text_keeps_to_its_cell(self, text: str) -> None:
        report = make_ranks_report()
        result = report.cases[FSDP]
        ranks = [
            replace(
                rank,
                optimizer=text,
                device_uuid=text,
                communication=replace(rank.communication, bytes_formula=text) if rank.communication else None,
            )
            for rank in result.attempts[0].ranks
        ]
        attempts = (replace(result.attempts[0], ranks=tuple(ranks)), *result.attempts[1:])
        hostile = replace(
            report, cases=tuple(replace(r, attempts=attempts) if r is result else r for r in report.cases)
        )
        for title, num_columns in (("Communication", 9), ("Ranks", 9)):
            lines, plain = section(hostile, title), section(report, title)
            assert len(lines) == len(plain)
            tables = [line for line in lines if line.startswith("|")]
            assert {len(cells(line)) for line in tables} == {num_columns}
            assert not any(re.search(r"(?<!\\)[<>`_\[\]]", line) for line in tables)
        assert max(map(cell_len, terminal(hostile, 80))) <= 80


def test_csv_columns_by_schema_name() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv([make_ranks_report()]))))
    for name in Scaling.__struct_fields__:
        assert {name, f"{name}_low"} & set(rows[0])
    fsdp, single = rows[FSDP], rows[0]
    assert fsdp["straggler_ranks"] == "1"
    assert float(fsdp["communication_share"]) == pytest.approx(0.16)
    assert float(fsdp["communication_share_interval_low"]) < 0.16
    assert fsdp["weak_baseline_case_id"] == single["case_id"]
    assert float(fsdp["weak_efficiency_interval_low"]) < float(fsdp["weak_efficiency"])
    assert single["weak_efficiency"] == single["straggler_ranks"] == single["slowest_rank"] == ""
    report = make_ranks_report()
    several = with_summary(report, straggler_ranks=(1, 3))
    assert list(csv.DictReader(io.StringIO(render_csv([several]))))[FSDP]["straggler_ranks"] == "1;3"


RANKS = "cases.5.attempts.0.ranks"


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "sound.json"
    write_report(make_ranks_report(), path)
    assert read_report(path) == make_ranks_report()
    data: dict[str, Any] = json.loads(path.read_text())
    return data


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (f"{RANKS}.1.rank", 0, "ranks[1].rank`: 0 is there already"),
        (f"{RANKS}.1.rank", 2, "ranks[1].rank`: 2, but the world size is 2"),
        (f"{RANKS}.1", None, "cases[5].attempts[0].ranks`: rank 1 is missing, but the attempt is ok"),
        (f"{RANKS}.1.communication.exposed_interval_ns", {"low": 2, "high": 1}, "2 to 1 is no interval"),
        ("cases.5.summary.slowest_rank", 2, "`cases[5].summary.slowest_rank`: 2, but the world size is 2"),
        ("cases.0.summary.slowest_rank", 0, "`cases[0].summary.slowest_rank`: 0, but the world size is 1"),
        ("cases.5.summary.straggler_ranks", [1, 9], "summary.straggler_ranks`: 9, but the world size is 2"),
        (
            "cases.5.summary.communication_share",
            None,
            "communication_share_interval`: an interval of nothing",
        ),
        (
            "cases.0.attempts.0.ranks.0.all_reduce",
            [{"num_bytes": 1, "bytes_per_s": 1.0}],
            "`cases[0].attempts[0].ranks[0].all_reduce`: there, but the world size is 1",
        ),
        ("cases.0.scaling", {}, "`cases[0].scaling`: there, but the case has one device"),
        (
            "cases.5.scaling.weak_baseline_case_id",
            "feedfacecafe",
            "weak_baseline_case_id`: 'feedfacecafe' is no case here with figures on one device",
        ),
        (
            "cases.5.scaling.weak_baseline_case_id",
            None,
            "`cases[5].scaling.weak_efficiency`: 0.6713, but its baseline is None",
        ),
        ("cases.5.scaling.strong_efficiency", None, "strong_efficiency`: unknown, but its baseline is '"),
        ("cases.5.scaling.weak_efficiency_interval", {"low": 2, "high": 1}, "2 to 1 is no interval"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, plain: dict[str, Any], path: str, value: object, expected: str
) -> None:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = plain
    for step in steps:
        place = place[step]
    if isinstance(last, int):
        del place[last]
    else:
        place[last] = value
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(plain))
    with pytest.raises(BadInputError, match=re.escape(expected)):
        read_report(file)


def test_ranks_of_one_attempt_take_equally_many_steps(tmp_path: Path, plain: dict[str, Any]) -> None:
    rank = plain["cases"][FSDP]["attempts"][0]["ranks"][1]
    rank["step_time_ns"].pop()
    rank["windows"][0]["num_steps"] -= 1
    (tmp_path / "bad.json").write_text(json.dumps(plain))
    with pytest.raises(BadInputError, match="between 27 and 28 steps; all ranks take as many"):
        read_report(tmp_path / "bad.json")
