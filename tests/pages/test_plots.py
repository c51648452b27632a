"""Pictures: what their data says, that they are the same on every call, and that names in them stay text."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from msgspec.structs import replace

from benchbox.analyze.history import MIN_REPORTS_AT_A_LEVEL
from benchbox.analyze.plan import plan as plan_job
from benchbox.errors import BadInputError, NothingToPlotError
from benchbox.plan.hardware import load_profiles
from benchbox.report.files import read_report
from benchbox.report.html import shapes
from benchbox.report.plan_view import read_plan, render_plan_json
from benchbox.report.plots import canvas
from benchbox.report.plots.history import LEAST_REPORTS, history
from benchbox.report.plots.memory import CONTEXT, GIB, PARTS, REST, foretold_text, memory, stack
from benchbox.report.plots.phases import phases
from benchbox.report.plots.plan import plan
from benchbox.report.plots.plot import Plot, report_labels, workload_label
from benchbox.report.plots.roofline import Roofs, known_roofs, roofline, step_point
from benchbox.report.plots.scaling import MAX_LINES, scaling
from benchbox.report.plots.telemetry import telemetry
from benchbox.report.plots.throughput import throughput
from benchbox.report.series import case_series, throttled_spans
from benchbox.report.sparkline import telemetry_lines
from benchbox.report.text import case_label
from benchbox.schema import DevicePrice, DeviceTelemetry, Interval, Outcome, PlanJob, Prices, Report
from tests.factories import make_case, make_ranks_report, make_report
from tests.pages.data import COPY_BYTES_PER_S, make_sweep
from tests.plans import simple_report

COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*/*/report.json"))
Draw = Callable[[Sequence[Report]], Plot]
ONE_REPORT: dict[str, Draw] = {
    "throughput": throughput,
    "scaling": scaling,
    "memory": memory,
    "roofline": roofline,
    "telemetry": telemetry,
    "phases": phases,
}


@pytest.fixture(scope="module")
def report() -> Report:
    return make_sweep(batches=(16, 64, 256), world_sizes=(1, 2, 4))


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]


def cells(plot: Plot, *row: str) -> list[str]:
    """The row that begins with ``row``."""
    (found,) = [one for one in plot.rows if one[: len(row)] == row]
    return list(found[len(row) :])


def drawn(plot: Plot) -> Figure:
    """The figure with the look that a file of it has, laid out."""
    figures: list[Figure] = []

    def draw() -> Figure:
        figures.append(plot.draw())
        return figures[0]

    canvas.render(plot._replace(draw=draw), "png")
    figures[0].draw_without_rendering()  # the file had more dots an inch
    return figures[0]


def tick_labels(axis: Axis) -> list[Text]:
    """Those that are in the picture."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    near = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [label for label in near if label.get_text() and label.get_visible()]


def overlaps(boxes: Sequence[Bbox]) -> list[tuple[Bbox, Bbox]]:
    return [(one, other) for one, other in combinations(boxes, 2) if one.overlaps(other)]


class TestEveryKind:
    @pytest.mark.parametrize("kind", ONE_REPORT)
    def test_svg_is_the_same_on_every_call_and_keeps_its_text(self, kind: str, report: Report) -> None:
        first, second = (canvas.render(ONE_REPORT[kind]([report])) for _ in range(2))
        assert first == second
        assert b"dc:date" not in first
        words = texts(first)
        assert any("NVIDIA H100 80GB HBM3" in word for word in words)
        assert len(words) > 8

    @pytest.mark.parametrize("kind", ["throughput", "scaling", "memory", "phases"])
    def test_two_reports_with_long_names_are_not_cut_off(self, kind: str) -> None:
        reports = [
            make_sweep((16, 64, 256), name=f"NVIDIA GH200 {part} 144GB HBM3e", world_sizes=(1, 2))
            for part in ("WWWWWW 480GB", "WWWWWW 120GB")
        ]
        figure = drawn(ONE_REPORT[kind](reports))
        (legend,) = figure.legends
        box, whole = legend.get_window_extent(), figure.bbox
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        for axes in figure.axes:
            names = [label.get_window_extent() for label in tick_labels(axes.yaxis)]
            assert all(name.x0 >= 0 for name in names if axes.get_visible())
            assert overlaps(names) == []

    @pytest.mark.parametrize("kind", ONE_REPORT)
    def test_data_stands_beside_the_picture(self, kind: str, report: Report) -> None:
        plot = ONE_REPORT[kind]([report])
        assert plot.rows
        assert {len(row) for row in plot.rows} == {len(plot.columns)}
        assert plot.description.endswith(".")

    @pytest.mark.parametrize(("file_format", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
    def test_other_formats(self, file_format: canvas.FileFormat, start: bytes, report: Report) -> None:
        first, second = (canvas.render(phases([report]), file_format) for _ in range(2))
        assert first.startswith(start)
        assert first == second

    def test_settings_of_the_user_change_nothing_and_are_left_alone(self, report: Report) -> None:
        import matplotlib as mpl

        plain = canvas.render(throughput([report]))
        with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
            assert canvas.render(throughput([report])) == plain
            assert mpl.rcParams["font.size"] == 30

    @pytest.mark.parametrize(
        "name",
        ["$\\frac{1}{0}$ $", "<script>x</script> & ]]>", "\x1b[2J\u202e\ufffe\uffff", "名前", "x" * 5000],
    )
    def test_names_are_text_and_never_mathematics_or_markup(self, name: str) -> None:
        report = make_sweep(batches=(16, 64), precisions=("fp32",), name=name)
        cases = tuple(replace(c, case=replace(c.case, model=name)) for c in report.cases)
        report = replace(report, cases=cases, suite=replace(report.suite, cases=tuple(c.case for c in cases)))
        for draw in (throughput, memory, telemetry):
            svg = canvas.render(draw([report]))
            root = ET.fromstring(svg)
            assert not [e for e in root.iter() if e.tag.endswith(("}script", "}a", "}foreignObject"))]
            start = re.split("[\x1b\u202e\ufffe]", name)[0][:16]
            assert any(start.strip() in word for word in texts(svg))

    @pytest.mark.parametrize("kind", ["scaling", "roofline"])
    def test_what_is_missing_is_said(self, kind: str) -> None:
        with pytest.raises(NothingToPlotError, match=kind):
            ONE_REPORT[kind]([make_report()])

    def test_nothing_measured_is_said_too(self) -> None:
        bare = make_report()
        cases = tuple(replace(c, summary=None, attempts=(), outcome=None) for c in bare.cases)
        for kind, draw in ONE_REPORT.items():
            with pytest.raises(NothingToPlotError, match=kind):
                draw([replace(bare, cases=cases)])


class TestThroughput:
    def test_rates_intervals_and_out_of_memory(self, report: Report) -> None:
        plot = throughput([report])
        result = next(r for r in report.cases if case_label(r.case) == "reference-cnn b64 bf16")
        assert result.summary is not None
        rate, interval, outcome = cells(plot, "reference-cnn", "bf16", "64")
        assert float(rate.replace(",", "")) == pytest.approx(result.summary.samples_per_second, rel=1e-3)
        assert result.summary.samples_per_second_interval is not None
        low, high = (float(end.replace(",", "")) for end in interval.split(" to "))
        assert low < result.summary.samples_per_second < high
        assert outcome == "ok"
        assert cells(plot, "reference-cnn", "fp32", "256") == ["–", "–", "oom"]

    @pytest.mark.parametrize("outcome", ["oom", "invalid", "crashed", "timeout", "unsupported", None])
    def test_what_has_no_figure_breaks_the_line_and_is_marked(self, outcome: Outcome | None) -> None:
        report = make_sweep(batches=(16, 32, 64, 128, 256), precisions=("bf16",))
        place = [case_label(r.case) for r in report.cases].index("reference-cnn b64 bf16")
        failed = replace(report.cases[place], outcome=outcome, reason="so", summary=None)
        cases = (*report.cases[:place], failed, *report.cases[place + 1 :])
        plot = throughput([replace(report, cases=cases)])
        word = outcome or "not finished"
        assert cells(plot, "reference-cnn", "bf16", "64") == ["–", "–", word]
        figure = plot.draw()
        axes = figure.axes[0]
        solid = [list(one.get_xdata()) for one in axes.get_lines() if one.get_linestyle() == "-"]
        assert solid == [[16, 32], [128, 256]]
        spans = [
            (corners[:, 0].min(), corners[:, 0].max())
            for one in axes.collections
            if isinstance(one, PolyCollection)
            for corners in (one.get_paths()[0].vertices,)
        ]
        assert spans[:2] == [(16, 32), (128, 256)]
        (mark,) = [one for one in axes.get_lines() if one.get_linestyle() == "None"]
        assert list(mark.get_xdata()) == [64]
        assert 0 < mark.get_ydata()[0] < 0.1  # at the foot, as a share of the height
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert mark.get_label() in names
        assert mark.get_label() == ("out of memory" if outcome == "oom" else word)

    def test_a_band_is_the_interval(self, report: Report) -> None:
        axes = throughput([report]).draw().axes[0]
        band = next(one for one in axes.collections if isinstance(one, PolyCollection))
        line = axes.get_lines()[0]
        corners = {(round(x), y) for x, y in band.get_paths()[0].vertices}
        own = {
            r.case.per_device_batch_size: r.summary.samples_per_second_interval
            for r in report.cases
            if r.summary
            and r.case.precision == "fp32"
            and not r.case.gradient_checkpointing
            and r.case.strategy == "single"
        }
        assert set(line.get_xdata()) == set(own)
        for batch, interval in own.items():
            assert interval is not None
            assert {(batch, interval.low), (batch, interval.high)} <= corners

    def test_workloads_that_differ_in_what_no_label_says_are_lines_of_their_own(self) -> None:
        report = make_sweep(batches=(16, 64), precisions=("fp32",))
        large = tuple(
            replace(r, case=replace(r.case, case_id=r.case.case_id[::-1], input_shape=(3, 448, 448)))
            for r in report.cases
        )
        plot = throughput([replace(report, cases=(*report.cases, *large))])
        shape = "x".join(map(str, report.cases[0].case.input_shape))
        assert {row[0] for row in plot.rows} == {f"reference-cnn {shape}", "reference-cnn 3x448x448"}
        for axes in plot.draw().axes:
            assert all(len(set(one.get_xdata())) == len(one.get_xdata()) for one in axes.get_lines())
        assert {row[0] for row in throughput([report]).rows} == {"reference-cnn"}

    def test_checkpointing_is_dashed_and_oom_is_a_cross(self, report: Report) -> None:
        words = texts(canvas.render(throughput([report])))
        assert {"fp32", "bf16", "with checkpointing", "out of memory", "95 % interval"} <= set(words)
        without = replace(report, cases=tuple(r for r in report.cases if r.outcome == "ok"))
        assert "out of memory" not in texts(canvas.render(throughput([without])))
        assert canvas.render(throughput([report])).count(b"stroke-dasharray") >= 3  # two lines and the legend

    def test_what_is_hollow_for_checkpointing_is_so_in_the_legend(self, report: Report) -> None:
        (legend,) = throughput([report]).draw().legends  # a single batch size is a mark without a dashed line
        hollow = [h.get_label() for h in legend.get_lines() if h.get_markerfacecolor() == "none"]
        assert hollow == ["with checkpointing"]

    def test_a_dashed_line_is_seen_to_be_dashed_in_the_legend(self, report: Report) -> None:
        (legend,) = drawn(throughput([report])).legends
        line = next(one for one in legend.get_lines() if one.get_label() == "with checkpointing")
        length_pt = line.get_xdata()[-1] - line.get_xdata()[0]
        dash, gap = (4 * line.get_linewidth(), 2 * line.get_linewidth())
        assert length_pt >= 2 * (dash + gap) + line.get_markersize()  # a whole dash and a gap beside the mark

    def test_one_batch_size_is_no_curve(self) -> None:
        plot = throughput([make_report()])
        assert {row[0] for row in plot.rows} == {"reference-cnn"}
        assert "small-cnn loader" in plot.notes[0]
        alone = make_sweep(batches=(16,), precisions=("bf16",))
        with pytest.raises(NothingToPlotError, match="two batch sizes"):
            throughput([alone])

    def test_devices_over_each_other(self, report: Report) -> None:
        other = make_sweep(batches=(16, 64, 256), name="NVIDIA A100-SXM4-80GB", slower=2)
        plot = throughput([report, other])
        assert {row[0] for row in plot.rows} == {"reference-cnn, fp32", "reference-cnn, bf16"}
        rates = [
            float(cells(plot, "reference-cnn, bf16", name, "64")[0].replace(",", ""))
            for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB")
        ]
        assert rates[0] / rates[1] == pytest.approx(2, rel=0.01)


class TestOthers:
    def test_efficiency(self, report: Report) -> None:
        plot = scaling([report])
        result = next(r for r in report.cases if r.case.world_size == 4)
        assert result.scaling is not None
        assert result.scaling.weak_efficiency is not None
        row = cells(plot, "reference-cnn b64 fp32 ddp", "4")
        assert row[1] == f"{100 * result.scaling.weak_efficiency:.1f} %"
        assert row[2] == "–"

    def test_a_strategy_begins_at_the_one_device_case_that_its_efficiency_is_against(self) -> None:
        report = make_ranks_report()
        plot = scaling([report])
        rates = {row[1]: float(row[2].replace(",", "")) for row in plot.rows if row[0].endswith("fp32 ddp")}
        assert set(rates) == {"1", "2"}
        share = cells(plot, "reference-cnn b32 fp32 ddp", "2")[1]
        assert float(share.removesuffix(" %")) == pytest.approx(100 * rates["2"] / (2 * rates["1"]), abs=0.1)
        assert plot.notes[0].startswith("What did not run on one device begins")
        # The ideal is of the same case where the strategy itself ran on one device, and was slower.
        of_one = next(r.summary for r in report.cases if case_label(r.case) == "reference-cnn b32 fp32")
        assert of_one is not None
        left, right = plot.draw().axes
        ideals = [line.get_xdata()[0] for line in left.get_lines() if line.get_marker() == "|"]
        assert ideals == pytest.approx([2 * of_one.samples_per_second] * 3)
        shown = {
            (line.get_marker(), line.get_xdata()[0])
            for line in right.get_lines()
            if len(line.get_xdata()) == 1
        }
        expected = [
            (marker, 100 * value)
            for r in report.cases
            if r.scaling is not None
            for marker, value in (("o", r.scaling.weak_efficiency), ("D", r.scaling.strong_efficiency))
            if value is not None
        ]
        assert shown == set(expected)
        assert len({marker for marker, _ in shown}) == 2

    def test_on_two_numbers_of_devices_every_configuration_has_a_row(self) -> None:
        path = next(path for path in COMMITTED if path.parent.name == "zero")
        plot = scaling([read_report(path)])
        names = list(dict.fromkeys(row[0] for row in plot.rows))
        assert len(names) > MAX_LINES
        assert not any(note.startswith("No room") for note in plot.notes)
        figure = drawn(plot)
        left, right = figure.axes
        assert [label.get_text() for label in left.get_yticklabels()] == names
        for axis in (left.yaxis, left.xaxis):
            assert overlaps([label.get_window_extent() for label in tick_labels(axis)]) == []
        rates = {
            name: [float(row[2].replace(",", "")) for row in plot.rows if row[0] == name] for name in names
        }
        for marker in ("o", "|"):
            places = [line.get_ydata()[0] for line in left.get_lines() if line.get_marker() == marker]
            assert set(places) == set(range(len(names)))
        first = sorted(
            line.get_xdata()[0]
            for line in left.get_lines()
            if line.get_marker() == "o" and line.get_ydata()[0] == 0
        )
        assert first == pytest.approx(sorted(rates[names[0]]), rel=1e-3)
        assert [line for line in right.get_lines() if line.get_marker() == "D"]

    def test_lines_are_never_of_the_colour_that_is_too_faint_for_white(self) -> None:
        assert canvas.YELLOW not in canvas.SERIES[:MAX_LINES]

    def test_configurations_that_differ_in_what_no_label_says_are_rows_of_their_own(self) -> None:
        report = make_sweep(batches=(16, 128), precisions=("fp32",), world_sizes=(1, 2, 4))
        large = tuple(
            replace(r, case=replace(r.case, case_id=r.case.case_id[::-1], num_classes=7))
            for r in report.cases
        )
        plot = scaling([replace(report, cases=(*report.cases, *large))])
        own = report.cases[0].case.num_classes
        names = {f"reference-cnn b64 fp32 ddp {count} classes" for count in (own, 7)}
        assert {row[0] for row in plot.rows} == names
        assert len(plot.rows) == 6

    def test_no_panel_for_an_efficiency_that_nothing_gives(self) -> None:
        plot = scaling([make_sweep(batches=(16, 128), world_sizes=(2, 4))])
        assert [axes.get_xlabel() for axes in plot.draw().axes] == ["samples/s"]
        assert plot.description == "Samples/s and efficiency of one configuration on up to 4 devices."

    def test_memory_of_the_device_or_of_the_host(self, report: Report) -> None:
        row = cells(memory([report]), "reference-cnn b64 fp32")
        assert row[0] == "ok"
        assert row[1] == "731 MiB"
        assert row[-2:] == ["–", "–"]  # a worker's RSS says nothing of a GPU
        plot = memory([make_report("cpu")])
        assert "No estimate" in plot.notes[0]
        assert cells(plot, "reference-cnn b32 fp32")[-1] == "3.40 GiB"

    def test_a_bar_of_memory_ends_at_the_estimated_peak_and_has_its_interval(self, report: Report) -> None:
        estimate = report.cases[0].memory_estimate
        assert estimate is not None
        whole = sum(getattr(estimate, field) for _, field, _ in PARTS)
        assert whole > 1.05 * estimate.peak_allocated_bytes  # parts that do not stand at the same time
        assert stack(estimate).not_at_once_bytes == whole - estimate.peak_allocated_bytes
        for device in ("cuda", "cpu"):
            found = replace(report, environment=replace(report.environment, device=device))
            axes = memory([found]).draw().axes[0]
            own = [patch for patch in axes.patches if round(patch.get_y() + patch.get_height() / 2) == 0]
            assert max(patch.get_x() + patch.get_width() for patch in own) == pytest.approx(
                estimate.peak_device_bytes / GIB
            )
            drawn_at = [
                bar.lines[0].get_xdata()[0] * GIB
                for bar in axes.containers
                if isinstance(bar, ErrorbarContainer)
            ]
            assert estimate.peak_device_bytes in map(round, drawn_at)
            (ends,) = [
                bar.lines[2][0].get_segments()[0][:, 0] * GIB
                for bar in axes.containers
                if isinstance(bar, ErrorbarContainer)
                and round(bar.lines[0].get_xdata()[0] * GIB) == estimate.peak_device_bytes
                and round(bar.lines[0].get_ydata()[0] - 0.41) == 0
            ]
            interval = estimate.peak_device_interval_bytes
            assert list(ends) == pytest.approx([interval.low, interval.high])

    def test_every_measured_peak_stands_beside_what_was_estimated(self, report: Report) -> None:
        plot = memory([report])
        row = dict(zip(plot.columns, plot.rows[0], strict=True))
        estimate = report.cases[0].memory_estimate
        assert estimate is not None
        assert row["reserved, estimated"] == "3.39 GiB"
        for name in ("peak allocated", "used on the device"):
            value, low, high = re.findall(r"[\d.]+ GiB", row[f"{name}, estimated"])
            assert float(low[:-4]) < float(value[:-4]) < float(high[:-4])
        sizes = [
            row[name] for name in (*(name for name, _, _ in PARTS), REST, CONTEXT, "not at the same time")
        ]
        units = {"GiB": 2**30, "MiB": 2**20, "B": 1}
        numbers = [float(s.split()[0].replace("−", "-")) * units[s.split()[1]] for s in sizes]
        assert sum(numbers) == pytest.approx(estimate.peak_device_bytes, rel=0.01)
        exact = replace(estimate, peak_allocated_interval_bytes=Interval(low=4e9, high=4e9))
        assert foretold_text(exact, "peak_memory_allocated_bytes") == "3.12 GiB"  # no interval without width

    def test_parts_of_any_size_make_a_bar_that_ends_at_the_peak(self, report: Report) -> None:
        estimate = report.cases[0].memory_estimate
        assert estimate is not None
        for context, peak in ((0, 0), (10**12, 10**9), (0, 10**13), (10**9, 10**6)):
            odd = replace(estimate, context_bytes=context, peak_device_bytes=peak)
            assert sum(size for _, size in stack(odd).segments) == peak
            assert min(size for _, size in stack(odd).segments) >= 0

    def test_many_cases_are_cut_and_it_is_said(self) -> None:
        many = make_sweep(batches=range(1, 9))
        assert memory([many]).notes[0] == "The 24 largest of 32 cases."
        assert len(memory([many]).rows) == 32
        assert phases([many]).notes[0] == "The 24 quickest of 31 cases."

    def test_shares_of_phases(self) -> None:
        row = cells(phases([make_report()]), "reference-cnn b32 fp32")
        assert sum(int(re.search(r"\((\d+) %\)", cell)[1]) for cell in row[:5]) == pytest.approx(100, abs=2)  # type: ignore[index]

    def test_roofs_bound_what_a_case_may_reach(self, report: Report) -> None:
        roofs = Roofs("", {"bf16": 100.0}, 1e12)
        assert roofs.limit_tflops("bf16", 10) == 10
        assert roofs.limit_tflops("bf16", 1000) == 100
        assert roofs.limit_tflops("fp16", 1000) is None
        plot = roofline([report])
        point = next(row for row in plot.rows if row[0] == "reference-cnn b16 fp32")
        result = report.cases[0]
        profile = result.attempts[0].ranks[0].profile
        assert profile is not None
        flops = sum(o.flops or 0 for o in profile.operators)
        moved = sum(o.least_bytes or 0 for o in profile.operators)
        assert float(point[1]) == pytest.approx(flops / moved, rel=0.01)

    def test_checkpointing_counts_what_it_computes_again_in_both_coordinates(self, report: Report) -> None:
        result = report.cases[0]
        assert result.summary is not None
        (attempt, *rest) = result.attempts
        (rank,) = attempt.ranks
        assert rank.profile is not None
        again = tuple(
            replace(o, flops=None if o.flops is None else 2 * o.flops) for o in rank.profile.operators
        )
        rank = replace(rank, profile=replace(rank.profile, operators=again))
        twice = replace(result, attempts=(replace(attempt, ranks=(rank,)), *rest))
        before, after = step_point(result, "x"), step_point(twice, "x")
        assert before is not None
        assert after is not None
        assert after.intensity == pytest.approx(2 * before.intensity)
        assert after.tflops == pytest.approx(2 * before.tflops)
        assert before.tflops == pytest.approx(result.summary.achieved_tflops, rel=1e-6)

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "-".join(path.parts[-3:-1]))
    def test_no_case_of_a_committed_report_lies_above_its_roof(self, path: Path) -> None:
        report = read_report(path)
        plot = roofline([report])
        shares = [float(row[-1].removesuffix(" %")) for row in plot.rows]
        assert len(shares) == len(report.cases)
        assert max(shares) <= 100
        own = [(step_point(r, ""), known_roofs(report, [r])[0]) for r in report.cases]
        for point, roof in own:
            assert point is not None
            assert point.tflops <= (roof.limit_tflops(point.precision, point.intensity) or 0)
        # The marks in the picture lie where the rows say.
        drawn_at = [
            (x, y)
            for line in plot.draw().axes[0].get_lines()
            if line.get_marker() != "None"
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        ]
        expected = [(point.intensity, point.tflops) for point, _ in own if point]
        for seen, meant in zip(sorted(drawn_at), sorted(expected), strict=True):
            assert seen == pytest.approx(meant)

    def test_the_bend_of_each_roof_that_a_case_lies_under_is_in_the_picture(self, report: Report) -> None:
        def far(factor: float) -> Report:
            assert report.ceilings is not None
            quick = tuple(
                replace(one, matmul_tflops=one.matmul_tflops * factor)
                for one in report.ceilings.precisions
                if one.matmul_tflops is not None
            )
            return replace(report, ceilings=replace(report.ceilings, precisions=quick), hardware_profile=None)

        (roof,) = known_roofs(far(20), report.cases)
        axes = roofline([far(20)]).draw().axes[0]
        bend = max(line.get_xdata()[1] for line in axes.get_lines() if len(line.get_xdata()) == 3)
        assert bend == pytest.approx(roof.bend("bf16"))
        assert bend == pytest.approx(20 * 702e12 / COPY_BYTES_PER_S)
        assert bend < axes.get_xlim()[1]
        axes = roofline([far(1e200)]).draw().axes[0]  # no picture reaches so far
        assert axes.get_xlim()[1] < 1000

    def test_telemetry_of_a_case_by_its_name(self, report: Report) -> None:
        plot = telemetry([report], "reference-cnn b16 fp32")
        assert [row[0] for row in plot.rows] == [
            "memory used",
            "utilization",
            "power",
            "SM clock",
            "temperature",
        ]
        assert "clocks held back" in texts(canvas.render(plot))
        assert telemetry([report], report.cases[0].case.case_id).rows == plot.rows
        with pytest.raises(BadInputError, match="--case: 'nothing'"):
            telemetry([report], "nothing")

    def test_history_is_ordered_by_time_and_set_against_the_first(self) -> None:
        new = make_sweep(batches=(16,), precisions=("bf16",), slower=1.25, created_at="2026-03-01T00:00:00Z")
        old = make_sweep(batches=(16,), precisions=("bf16",), created_at="2026-02-01T00:00:00Z")
        plot = history([new, old])
        shares = [row[4] for row in plot.rows if row[0] == "reference-cnn b16 bf16"]
        assert shares == ["100.0 %", "80.00 %"]
        assert plot.description.endswith("cannot be told from fewer than four reports.")
        with pytest.raises(NothingToPlotError, match="two of the reports"):
            history([old])

    def test_history_marks_where_the_level_changed_and_leaves_other_machines_out(self) -> None:
        reports = [
            make_sweep(
                batches=(16,),
                precisions=("bf16",),
                slower=1.0 if day < 4 else 1.1,
                created_at=f"2026-01-{day + 1:02d}T00:00:00Z",
            )
            for day in range(8)
        ]
        other = make_sweep(
            batches=(16,), precisions=("bf16",), name="other", created_at="2026-01-01T09:00:00Z"
        )
        plot = history([other, *reports])
        levels = {row[1]: row[5] for row in plot.rows if row[0] == "reference-cnn b16 bf16"}
        assert [date for date, level in levels.items() if level] == ["2026-01-05 00:00"]
        assert levels["2026-01-05 00:00"] == "−9.1 %"
        assert plot.description.endswith("the first is 100 %. 2 cases −9.1 % from 2026-01-05 00:00 on.")
        assert history(reports[:4]).description.endswith("No level changed.")
        assert LEAST_REPORTS == 2 * MIN_REPORTS_AT_A_LEVEL
        assert plot.notes == ("Left out, because it differs from the newest in devices.name: other.",)
        words = texts(canvas.render(plot))
        assert "level changes" in words
        assert " 2 cases −9.1 %" in words or "2 cases −9.1 %" in words

    def test_history_shows_a_case_that_is_no_longer_ok(self) -> None:
        batches = (16, 64)
        reports = [
            make_sweep(batches, ("bf16",), created_at=f"2026-01-{day + 1:02d}T00:00:00Z") for day in range(5)
        ]
        failed = [
            replace(c, outcome="oom", summary=None, attempts=()) if c.case.per_device_batch_size == 64 else c
            for c in reports[0].cases
        ]
        late = [replace(one, cases=tuple(failed)) for one in reports[3:]]
        plot = history([*reports[:3], *late])
        assert "No longer ok: reference-cnn b64 bf16 is oom from 2026-01-04 00:00 on" in plot.description
        rows = [row for row in plot.rows if row[0] == "reference-cnn b64 bf16"]
        assert [row[2] for row in rows[:-1]] == [rows[0][2]] * 3
        assert rows[-1][1:4] == ("2026-01-04 00:00", "oom", "–")
        figure = drawn(plot)
        assert "no longer ok" in [text.get_text() for text in figure.legends[0].get_texts()]
        crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
        assert [list(cross.get_xdata()) for cross in crosses] == [[3], [3]]
        # One report measured it and the next could not: that is told too, though it is no line.
        alone = history([reports[0], late[0]])
        assert "No longer ok: reference-cnn b64 bf16" in alone.description

    def test_a_plan_is_drawn_from_what_the_command_wrote(self, tmp_path: Path) -> None:
        prices = Prices(
            currency="EUR", date=date(2026, 1, 5), device=(DevicePrice(name="A100-SXM4-80GB", per_hour=2.0),)
        )
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",), counts=(1, 2, 4))
        result = plan_job([simple_report()], job, 10**9, None, prices, load_profiles(), 100)
        path = tmp_path / "plan.json"
        path.write_text(render_plan_json(result))
        plot = plan(read_plan(path))
        assert len(plot.rows) == len(result.configurations)
        assert [row[-1] for row in plot.rows].count("yes") == len(result.front) > 0
        words = texts(canvas.render(plot))
        assert {"EUR", "hours", "predicted"} <= set(words)
        named = [word for word in words if re.match(r"\d: \d × A100", word)]
        assert len(named) == len(result.front)

    @pytest.mark.parametrize("per_hour", [0.002, 2.0, 20_000.0])
    def test_a_plans_axes_have_plain_numbers_that_stand_apart(self, per_hour: float) -> None:
        price = DevicePrice(name="A100-SXM4-80GB", per_hour=per_hour)
        prices = Prices(currency="EUR", date=date(2026, 1, 5), device=(price,))
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",), counts=(1, 2, 4))
        figure = drawn(plan(plan_job([simple_report()], job, 10**9, None, prices, load_profiles(), 100)))
        (axes,) = figure.axes
        for axis in (axes.xaxis, axes.yaxis):
            shown = tick_labels(axis)
            assert len(shown) > 1
            assert all(float(label.get_text().replace(",", "")) > 0 for label in shown)
            assert overlaps([label.get_window_extent() for label in shown]) == []
        assert overlaps([text.get_window_extent() for text in axes.texts]) == []

    def test_a_plan_without_prices_has_no_front_to_draw(self) -> None:
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",))
        result = plan_job([simple_report()], job, 10**9, None, None, load_profiles(), 100)
        with pytest.raises(NothingToPlotError, match="--prices"):
            plan(result)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"job": 1}', "\x00", "[" * 100_000])
    def test_what_is_no_plan_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "plan.json"
        path.write_text(text)
        with pytest.raises(BadInputError, match="not a plan"):
            read_plan(path)


class TestNames:
    def test_bars_of_a_model_with_a_long_name_are_told_apart(self) -> None:
        report = make_sweep(batches=(16, 64), precisions=("bf16",))
        long = "a.package.with.many.parts:a_function_with_a_long_name"
        cases = tuple(replace(c, case=replace(c.case, model=long)) for c in report.cases)
        for draw in (memory, phases):
            axes = draw([replace(report, cases=cases)]).draw().axes[0]
            labels = [label.get_text() for label in axes.get_yticklabels()]
            assert len(set(labels)) == len(cases) == 4
            assert {label.split()[-1] for label in labels} == {"bf16", "ckpt"}
            assert max(map(len, labels)) <= 44

    def test_workload(self) -> None:
        case = make_case(precision="bf16", gradient_checkpointing=True, compile=True, data="host")
        assert workload_label(case) == "reference-cnn compile host"

    def test_reports_are_told_apart(self) -> None:
        one, two = make_report(), make_report("cpu")
        assert report_labels([one, two]) == ["NVIDIA H100 80GB HBM3", "AMD EPYC 7B13"]
        later = replace(one, created_at="2026-02-01T00:00:00Z")
        assert report_labels([one, later])[1] == "NVIDIA H100 80GB HBM3, 2026-02-01"
        assert len(set(report_labels([one, one, one]))) == 3


class TestSeries:
    def test_attempts_follow_each_other_and_devices_are_averaged(self) -> None:
        report = make_report()
        result = report.cases[0]
        attempt = result.attempts[0]
        first = DeviceTelemetry(
            uuid="a",
            sample_at_ns=(1_000_000_000, 1_500_000_000),
            power_w=(100.0, None),
            throttle_reasons=(0, 4),
        )
        second = replace(first, uuid="b", power_w=(300.0, 500.0), throttle_reasons=(0, 0))
        result = replace(result, attempts=(replace(attempt, devices=(first, second)),) * 2)
        (power,) = case_series(result, 100)
        assert [(round(p.at_s, 2), p.mean, p.low, p.high) for p in power.points] == [
            (0, 200, 100, 300), (0.5, 500, 500, 500), (0.65, 200, 100, 300), (1.15, 500, 500, 500),
        ]  # fmt: skip
        assert power.num_lines == 2
        spans = throttled_spans(result)
        assert spans == [pytest.approx((0.25, 0.575)), pytest.approx((0.9, 1.225))]

    @pytest.mark.parametrize(
        ("held", "spans"), [(0, [(0.0, 0.2)]), (2, [(0.6, 1.0)]), (4, [(1.4, 1.675)]), ((1, 2), [(0.2, 1.0)])]
    )
    def test_one_sample_that_held_its_clocks_back_is_as_wide_as_a_sample(
        self, held: int | tuple[int, ...], spans: list[tuple[float, float]]
    ) -> None:
        report = make_report()
        result = report.cases[0]
        places = held if isinstance(held, tuple) else (held,)
        device = DeviceTelemetry(
            uuid="a",
            sample_at_ns=tuple(range(10**9, 3 * 10**9, 4 * 10**8)),
            power_w=(100.0,) * 5,
            throttle_reasons=tuple(4 if place in places else 0 for place in range(5)),
        )
        result = replace(result, attempts=(replace(result.attempts[0], devices=(device,)),))
        assert [pytest.approx(span) for span in spans] == throttled_spans(result)
        # The same stretch in the picture, in the page's strip, and in the terminal's line.
        one = replace(report, cases=(result,))
        axes = telemetry([one]).draw().axes[0]
        (start, end) = spans[0]
        shaded = [patch.get_x() for patch in axes.patches], [patch.get_width() for patch in axes.patches]
        assert shaded == (pytest.approx([start]), pytest.approx([end - start]))
        strip = shapes.telemetry(result, 100)
        assert strip is not None
        (box,) = strip.throttled
        scale = shapes.WIDTH / 1.6
        assert box.x == pytest.approx(start * scale)
        assert box.width == pytest.approx((min(end, 1.6) - start) * scale)
        marks = telemetry_lines(one, 80)[-1]
        assert marks.startswith("clocks held back")
        assert marks.count("!") >= 1

    def test_long_series_are_thinned_and_keep_their_extremes(self) -> None:
        (result, *_) = make_report().cases
        (attempt, *_) = result.attempts
        power = tuple(float(place) for place in range(1000))
        device = DeviceTelemetry(uuid="a", sample_at_ns=tuple(range(0, 10**10, 10**7)), power_w=power)
        (series,) = case_series(replace(result, attempts=(replace(attempt, devices=(device,)),)), 50)
        assert len(series.points) == 50
        assert (series.least, series.most) == (0, 999)
        assert series.mean == pytest.approx(499.5)


def test_a_command_line_that_draws_nothing_does_not_import_matplotlib() -> None:
    code = "import sys, benchbox.cli, benchbox.report.plots.throughput; print('matplotlib' in sys.modules)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "False"
