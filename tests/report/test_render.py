"""What a reader sees: in the terminal, as Markdown, as CSV and in pytest-benchmark."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from benchbox.errors import BadInputError
from benchbox.report import figures
from benchbox.report.bencher import render_bencher
from benchbox.report.csvfile import render_csv
from benchbox.report.html.page import render_page
from benchbox.report.markdown import render_markdown
from benchbox.report.pytest_benchmark import render_pytest_benchmark
from benchbox.report.terminal import terminal_view
from benchbox.report.text import UNKNOWN, csv_cell
from benchbox.schema import Case, CaseSummary, Interval, Report
from tests.factories import hostile_report, make_report

HOSTILE = [
    "[bold red]markup[/] [link=https://evil.example]x[/link] [/nothing]",
    "\x1b[2J\x1b]8;;https://evil.example\x07click\x1b]8;;\x07",
    "one\ntwo\r\nthree\x0bfour\u2028five",
    "a | b || c",
    "=cmd|'/c calc'!A1",
    "\u202egnp.exe\u2066\u200b",
    "<script>alert(1)</script> <!-- --> ![x](y) `code` ```",
    "# heading\n- item\n1. number\n    indented\n```",
    "x" * 5000,
    "",
]


def terminal(report: Report, width: int) -> list[str]:
    """The lines that a terminal of ``width`` columns shows, trailing blanks cut."""
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(terminal_view(report, width))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def with_summary(report: Report, **changes: object) -> Report:
    """The same figures for each case that has some, with ``changes``."""
    cases = tuple(
        replace(case, summary=replace(case.summary, **changes)) if case.summary else case
        for case in report.cases
    )
    return replace(report, cases=cases)


def figure_texts(report: Report) -> list[str]:
    groups, _ = figures.known_groups(report)
    return [
        figure.text(case) or UNKNOWN
        for case in report.cases
        if case.summary
        for group in groups
        for figure in group
    ]


EXTREME: dict[str, object] = {
    "samples_per_second": 123_456_789.0,
    "samples_per_second_interval": Interval(low=1.0, high=123_456_789.0),
    "interval_basis": "steps",
    "step_time_p50_ns": 987_654_000_000_000,
    "peak_memory_allocated_bytes": 1400 * 2**30,
    "power_w": 12345.6,
    "joules_per_sample": 123_456.0,
    "mfu": 1.23456,
    "mfu_peak_tflops": 12345.6,
}


class TestTerminal:
    @pytest.mark.parametrize("device", ["cuda", "cpu"])
    @pytest.mark.parametrize("complete", [True, False])
    @pytest.mark.parametrize("extreme", [False, True])
    def test_fits_80_columns_with_every_figure(self, device: str, complete: bool, extreme: bool) -> None:
        report = make_report(device, complete=complete)
        if extreme:
            report = with_summary(report, **EXTREME)
        lines = terminal(report, 80)
        assert max(map(cell_len, lines)) <= 80
        shown = " ".join(lines)
        for text in figure_texts(report):
            assert text in shown
        assert "…" not in shown
        for word in ("ok", "oom", "unsupported", "invalid"):
            assert any(line.split()[-1] == word for line in lines if line)

    def test_uses_the_width_that_there_is(self) -> None:
        report = make_report()
        (row,) = [line for line in terminal(report, 200) if "b64 bf16 ckpt" in line]
        assert re.split(r"  +", row) == [
            "reference-cnn b64 bf16 ckpt channels_last",
            *figure_texts(report)[3 * 13 : 4 * 13],
            "ok",
        ]
        assert max(map(cell_len, terminal(report, 200))) <= 200

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 150, 160, 180, 250])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        assert max(map(cell_len, terminal(make_report(), width))) <= width

    def test_columns_that_nobody_knows_are_left_out_and_named(self) -> None:
        shown = " ".join(terminal(make_report("cpu"), 120))
        assert "MFU  " not in shown
        assert (
            "left out: GPU utilization, power, energy per sample, MFU, the peak that MFU is against" in shown
        )

    def test_failed_cases_come_with_their_reason(self) -> None:
        shown = "\n".join(terminal(make_report(), 200))
        assert "oom  reference-cnn b4096 fp32: CUDA out of memory: tried to allocate 23.91 GiB" in shown
        assert "unsupported  reference-cnn b64 bf16 compile: torch.compile needs a C compiler" in shown

    def test_says_what_watching_cost_and_where_it_ran(self) -> None:
        shown = " ".join(terminal(make_report(), 300))
        assert "Telemetry at 10 Hz changes step time by +0.15 % (95 %: −0.08 to +0.39 %)" in shown
        assert "torch 2.13.0+cu130 · Python 3.12.11 · CUDA 13.0" in shown
        off = replace(make_report(telemetry_hz=0), telemetry_cost=None)
        assert "Telemetry was off." in terminal(off, 80)

    def test_a_hint_that_concerns_many_cases_comes_once(self) -> None:
        report = make_report()
        report = replace(report, cases=tuple(replace(case, hints=("cold",)) for case in report.cases))
        assert [line for line in terminal(report, 80) if "cold" in line] == ["hint  every case: cold"]

    def test_an_interval_over_steps_is_marked_and_explained(self) -> None:
        shown = terminal(make_report(complete=False), 80)
        assert any("%*" in line for line in shown)
        assert figures.STAR in shown
        assert figures.STAR not in terminal(make_report(), 80)

    def test_a_run_without_any_figure(self) -> None:
        report = make_report()
        bare = tuple(
            replace(case, summary=None, attempts=(), outcome=None, reason=None) for case in report.cases
        )
        shown = "\n".join(terminal(replace(report, cases=bare, complete=False), 80))
        assert "not finished  reference-cnn b32 fp32: its turn had not come" in shown
        assert "left out" not in shown

    def test_outcomes_have_a_colour_beside_their_word(self) -> None:
        output = io.StringIO()
        Console(file=output, width=80, force_terminal=True, color_system="standard").print(
            terminal_view(make_report(), 80)
        )
        assert re.search(r"\x1b\[32mok", output.getvalue())
        assert re.search(r"\x1b\[31moom", output.getvalue())


@pytest.mark.parametrize("text", HOSTILE)
class TestHostileText:
    def test_terminal(self, text: str) -> None:
        lines = terminal(hostile_report(text), 80)
        assert max(map(cell_len, lines)) <= 80
        for line in lines:
            assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in line)

    def test_terminal_markup_is_shown_and_not_obeyed(self, text: str) -> None:
        if "[bold" in text:
            shown = " ".join(terminal(hostile_report(text), 200))
            assert "[bold red]markup[/] [link=https://evil.example]x[/link]" in shown

    def test_markdown(self, text: str) -> None:
        lines = render_markdown(hostile_report(text)).splitlines()
        plain = render_markdown(hostile_report("plain")).splitlines()
        assert [line for line in lines if line.startswith("## ")] == [
            line for line in plain if line.startswith("## ")
        ]
        assert sum(line.startswith("# ") for line in lines) == 1
        for line in lines:
            assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in line)
            if line.startswith("      "):
                continue  # an indented block shows what stands in it
            assert not re.search(r"(?<!\\)[<>`_\[\]]", line)
            assert "https://" not in line
        widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
        assert widths == [len(re.findall(r"(?<!\\)\|", line)) for line in plain if line.startswith("|")]

    def test_csv(self, text: str) -> None:
        rows = list(csv.DictReader(io.StringIO(render_csv([hostile_report(text)]))))
        assert len(rows) == 2
        for row in rows:
            assert None not in row
            for name in ("model", "data_dir", "reason", "suite"):
                assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
                assert row[name].isprintable()

    def test_pytest_benchmark(self, text: str) -> None:
        document = json.loads(render_pytest_benchmark([hostile_report(text)]))
        assert document["benchmarks"][0]["name"].isprintable()


def test_texts_in_a_row_of_a_cell_are_cleaned_too() -> None:
    assert csv_cell((3, 224, 224)) == "3x224x224"
    assert csv_cell(("=1+1\x9b", "\u202eb")) == "'=1+1xb"


FORMATS: dict[str, Callable[[Report], str]] = {
    "terminal": lambda report: "\n".join(terminal(report, 120)),
    "markdown": render_markdown,
    "html": lambda report: render_page([report]),
    "csv": lambda report: render_csv([report]).replace("\r\n", "\n"),
    "pytest-benchmark": lambda report: render_pytest_benchmark([report]),
    "bencher": lambda report: render_bencher([report]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_holds_what_a_terminal_obeys(name: str) -> None:
    """Among it the sequences' start in one character (C1), and what turns the direction of a line."""
    text = FORMATS[name](hostile_report("a\x9b31m\x7f\x1b]0;x\x07\u202eb\u2066c\u2028d\U000e0001"))
    assert "31m" in text
    found = {unicodedata.category(char) for char in text.replace("\n", "").replace("\t", "")}
    assert found.isdisjoint({"Cc", "Cf", "Zl", "Zp"})


@settings(max_examples=30)
@given(st.text(max_size=80))
def test_any_text_keeps_to_its_place(text: str) -> None:
    report = hostile_report(f"{text.encode('utf-8', 'replace').decode()} x")
    assert max(map(cell_len, terminal(report, 80))) <= 80
    rows = list(csv.DictReader(io.StringIO(render_csv([report]))))
    assert len(rows) == 2
    assert _block_starts(render_markdown(report)) == _block_starts(render_markdown(hostile_report("plain")))


def _block_starts(markdown: str) -> list[str]:
    """The first characters of lines that begin something: headings, items, table rows."""
    return [line[0] for line in markdown.splitlines() if line[:1] not in ("", " ") and not line[0].isalpha()]


class TestMarkdown:
    def test_every_case_and_section(self) -> None:
        text = render_markdown(make_report())
        assert [line for line in text.splitlines() if line.startswith("#")] == [
            "# quick: 8 cases on NVIDIA H100 80GB HBM3",
            "## Before you trust a figure",
            "## Results",
            "## What is in the way",
            "## Cases that are not ok",
            "## Phases of a step",
            "## Arithmetic of a step",
            "## Losses against fp32",
            "## How it was measured",
            "## Environment",
        ]
        assert "step-cap" in text
        assert "confidence-interval" in text
        assert "RuntimeError: CUDA out of memory" in text
        assert "7.26 ms (51 %)" in text
        assert text.endswith("\n")

    def test_tables_line_up_in_their_source(self) -> None:
        blocks = render_markdown(make_report()).split("\n\n")
        tables = [block.strip().splitlines() for block in blocks if block.startswith("|")]
        assert len(tables) == 7
        for table in tables:
            assert len({len(line) for line in table}) == 1

    def test_losses_that_went_wrong(self) -> None:
        report = make_report()
        case = report.cases[0]
        rank = case.attempts[0].ranks[0]
        assert rank.loss_check is not None
        check = replace(
            rank.loss_check,
            losses=(6.9071, 7.5969, None),
            reference_losses=(6.9071, 6.9062, 6.9),
            agrees_with_fp32=False,
        )
        attempt = replace(case.attempts[0], ranks=(replace(rank, loss_check=check),))
        text = render_markdown(replace(report, cases=(replace(case, attempts=(attempt,)), *report.cases[1:])))
        assert re.search(r"does not agree \|.*6\.9071 7\.5969 NaN \| +10 % \| +2 % \|", text)

    def test_figures_that_only_its_tables_show(self) -> None:
        report = make_report()
        case = report.cases[0]
        ranks = []
        for number, attempt in enumerate(case.attempts):
            (rank,) = attempt.ranks
            assert rank.flops is not None
            assert rank.host_usage is not None
            ranks.append(
                replace(
                    rank,
                    flops=replace(rank.flops, hardware_flops_per_step=300_000_000_000),
                    host_usage=replace(rank.host_usage, major_page_faults=500),
                    process_start_at_ns=0,
                    ready_at_ns=(number + 1) * 1_000_000_000,
                    first_loss=2.3026,
                    last_loss=0.0512,
                )
            )
        attempts = tuple(replace(a, ranks=(r,)) for a, r in zip(case.attempts, ranks, strict=True))
        report = replace(report, cases=(replace(case, attempts=attempts), *report.cases[1:]))
        lines = [line for line in render_markdown(report).splitlines() if "reference-cnn b32 fp32" in line]
        assert any(re.search(r"\| 191,692,136 \| +215\.9 \| +300\.0 \| +15\.\d \|", line) for line in lines)
        assert any(re.search(r"\| +2\.75 s \| +2\.00 s \| +1,500 \|", line) for line in lines)
        assert any(re.search(r"\| +2\.303 to 0\.05120 \|", line) for line in lines)


class TestCsv:
    def rows(self, *reports: Report) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(render_csv(reports))))

    def test_one_row_a_case_and_columns_by_schema_name(self) -> None:
        report = make_report()
        rows = self.rows(report)
        names = list(rows[0])
        assert names[0] == "case_id"
        assert set(Case.__struct_fields__) <= set(names)
        summary = {name for name in CaseSummary.__struct_fields__ if not name.endswith("_interval")}
        assert summary <= set(names)
        assert {"outcome", "reason", "warmup_end", "stop_reason", "agrees_with_fp32", "forward_ns"} <= set(
            names
        )
        assert [row["case_id"] for row in rows] == [case.case.case_id for case in report.cases]
        first = report.cases[0].summary
        assert first is not None
        assert float(rows[0]["samples_per_second"]) == first.samples_per_second
        assert first.samples_per_second_interval is not None
        assert float(rows[0]["samples_per_second_interval_low"]) == first.samples_per_second_interval.low
        assert rows[0]["input_shape"] == "3x224x224"
        assert rows[0]["gradient_checkpointing"] == "false"
        assert rows[0]["agrees_with_fp32"] == "true"
        assert rows[0]["warmup_end"] == "settled"

    def test_unknown_is_empty(self) -> None:
        (oom,) = [row for row in self.rows(make_report()) if row["outcome"] == "oom"]
        assert oom["samples_per_second"] == oom["mfu"] == oom["forward_ns"] == oom["warmup_end"] == ""
        assert self.rows(make_report("cpu"))[0]["power_w"] == ""

    def test_lines_end_as_rfc_4180_says(self) -> None:
        text = render_csv([make_report()])
        assert text.count("\r\n") == 9
        assert text.endswith("\r\n")

    def test_formulas_are_defused(self) -> None:
        for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1"):
            row = self.rows(hostile_report(text))[0]
            assert row["model"].startswith("'")
            assert float(row["samples_per_second"]) == pytest.approx(3200)

    def test_several_reports(self) -> None:
        rows = self.rows(make_report(), make_report("cpu"))
        assert [row["device"] for row in rows] == ["cuda"] * 8 + ["cpu"] * 8


class TestPytestBenchmark:
    def test_stats_rest_on_raw_step_times(self) -> None:
        report = make_report()
        document = json.loads(render_pytest_benchmark([report]))
        assert len(document["benchmarks"]) == 5
        first, case = document["benchmarks"][0], report.cases[0]
        times = [ns / 1e9 for attempt in case.attempts for ns in attempt.ranks[0].step_time_ns]
        assert first["stats"]["data"] == pytest.approx(times)
        assert first["stats"]["mean"] == pytest.approx(sum(times) / len(times))
        assert first["stats"]["rounds"] == len(times)
        assert first["extra_info"]["samples_per_second"] == pytest.approx(2242.3, abs=0.1)
        assert first["extra_info"]["peak_memory_allocated_bytes"] > 0
        assert first["extra_info"]["environment"]["software"]["torch"] == "2.13.0+cu130"

    def test_its_own_command_compares_our_files(self, tmp_path: Path) -> None:
        for name, report in (("gpu", make_report()), ("cpu", make_report("cpu"))):
            (tmp_path / f"{name}.json").write_text(render_pytest_benchmark([report]))
        command = Path(sys.executable).with_name("pytest-benchmark")
        result = subprocess.run(
            [command, "--storage", tmp_path, "compare", tmp_path / "gpu.json", tmp_path / "cpu.json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            cwd=tmp_path,
        )
        assert "benchmark: 10 tests" in result.stdout
        assert result.stdout.count("reference-cnn b64 bf16 ckpt channels_last") == 2
        assert "Failed to load" not in result.stdout + result.stderr

    def test_one_run_a_file(self) -> None:
        with pytest.raises(BadInputError, match="got 2 reports"):
            render_pytest_benchmark([make_report(), make_report("cpu")])
