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
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from msgspec.structs import replace

from benchbox.analyze.history import MIN_REPORTS_AT_A_LEVEL
from benchbox.analyze.plan import plan as plan_job
from benchbox.errors import BadInputError, NothingToPlotError
from benchbox.plan.hardware import load_profiles
from benchbox.report.plan_view import read_plan, render_plan_json
from benchbox.report.plots import canvas
from benchbox.report.plots.history import LEAST_REPORTS, history
from benchbox.report.plots.memory import memory
from benchbox.report.plots.phases import phases
from benchbox.report.plots.plan import plan
from benchbox.report.plots.plot import Plot, report_labels, workload_label
from benchbox.report.plots.roofline import Roofs, roofline
from benchbox.report.plots.scaling import scaling
from benchbox.report.plots.telemetry import telemetry
from benchbox.report.plots.throughput import throughput
from benchbox.report.series import case_series, throttled_spans
from benchbox.report.text import case_label
from benchbox.schema import DevicePrice, DeviceTelemetry, PlanJob, Prices, Report
from tests.factories import make_case, make_ranks_report, make_report
from tests.pages.data import make_sweep
from tests.plans import simple_report

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
    return [tick.label1 for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]


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
        ideals = [line.get_ydata()[-1] for line in left.get_lines() if line.get_linestyle() == ":"]
        assert ideals == pytest.approx([2 * of_one.samples_per_second] * 3)
        fills = {line.get_markerfacecolor() for line in right.get_lines() if line.get_marker() == "o"}
        assert len(fills) == 2  # weak and strong, one mark each: not told apart by the dash of a line

    def test_no_panel_for_an_efficiency_that_nothing_gives(self) -> None:
        plot = scaling([make_sweep(batches=(16, 128), world_sizes=(2, 4))])
        assert [axes.get_ylabel() for axes in plot.draw().axes] == ["samples/s"]
        assert plot.description == "Samples/s and efficiency of one configuration on up to 4 devices."

    def test_memory_of_the_device_or_of_the_host(self, report: Report) -> None:
        row = cells(memory([report]), "reference-cnn b64 fp32")
        assert row[0] == "ok"
        assert "GiB" in row[1]
        assert row[-1] == "–"  # a worker's RSS says nothing of a GPU
        plot = memory([make_report("cpu")])
        assert "No estimate" in plot.notes[0]
        assert cells(plot, "reference-cnn b32 fp32")[-1] == "3.40 GiB"

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

    def test_the_bend_of_each_roof_that_a_case_lies_under_is_in_the_picture(self, report: Report) -> None:
        assert report.ceilings is not None
        assert report.ceilings.device_copy_bytes_per_s is not None
        slow = replace(report.ceilings, device_copy_bytes_per_s=2.81e12 / 20)
        axes = roofline([replace(report, ceilings=slow, hardware_profile=None)]).draw().axes[0]
        bend = max(line.get_xdata()[1] for line in axes.get_lines() if len(line.get_xdata()) == 3)
        assert bend == pytest.approx(702e12 / 2.81e12 * 20)
        assert bend < axes.get_xlim()[1]
        slow = replace(report.ceilings, device_copy_bytes_per_s=1e-300)  # no picture reaches so far
        axes = roofline([replace(report, ceilings=slow, hardware_profile=None)]).draw().axes[0]
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
        assert [(round(a, 2), round(b, 2)) for a, b in throttled_spans(result)] == [(0.25, 0.5), (0.9, 1.15)]

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
