"""What a page holds, without a browser."""

from __future__ import annotations

import html
import json
import re
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.analyze.history import history_of, rates_of
from benchbox.analyze.plan import plan as plan_job
from benchbox.errors import BadInputError
from benchbox.plan.hardware import load_profiles
from benchbox.report.build import rediagnosed
from benchbox.report.comparison_files import render_comparison_json
from benchbox.report.comparison_text import counts_sentence, interval_text, ratio_text, rule_sentence
from benchbox.report.diagnosis import class_places, full_text
from benchbox.report.documents import Documents, read_documents
from benchbox.report.figures import STAR
from benchbox.report.files import read_report, read_times, write_report
from benchbox.report.html.answer import BOTTLENECKS, answer
from benchbox.report.html.comparison import verdicts
from benchbox.report.html.details import detail
from benchbox.report.html.page import render_page
from benchbox.report.html.pictures import pictures
from benchbox.report.html.shapes import histogram, roofline_dot
from benchbox.report.html.side_by_side import Mark, compare_with_first, configurations
from benchbox.report.html.table import render_table
from benchbox.report.html.template_files import with_code
from benchbox.report.plan_view import plan_answers, plan_closing, render_plan_json
from benchbox.report.plots.plot import report_labels
from benchbox.report.plots.roofline import Point, Roofs, known_roofs
from benchbox.report.sentences import case_hints
from benchbox.report.text import case_labels, indented_json, rate_text, significant
from benchbox.schema import SCHEMA_VERSION, DevicePrice, Diagnosis, Interval, PlanJob, Prices, Report
from tests.factories import hostile_report, make_profile, make_report
from tests.pages.data import make_sweep
from tests.plans import simple_report


class Outline(HTMLParser):
    """The elements of a document, and those that were opened and never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in {"meta", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(sweep: Report) -> str:
    return render_page([sweep])


class TestPage:
    def test_is_well_formed_and_brings_everything(self, page: str) -> None:
        outline = Outline(page)
        assert outline.open == []
        assert outline.tags.count("script") == outline.tags.count("style") == 1
        assert not {"img", "link", "iframe", "object"} & set(outline.tags)
        assert "style" not in outline.attributes  # the policy would refuse it
        assert not [name for name in outline.attributes if name.startswith("on")]
        assert "http" not in re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]*"|http-equiv', "", page)

    def test_is_the_same_on_every_call(self, page: str, sweep: Report) -> None:
        assert render_page([sweep]) == page

    def test_ids_are_used_once(self, page: str) -> None:
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids))
        for target in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
            assert "".join(target) in ids

    def test_shows_every_case_and_every_known_figure(self, page: str, sweep: Report) -> None:
        for result in sweep.cases:
            if result.summary is not None:
                rate = rate_text(
                    result.summary.samples_per_second, result.summary.samples_per_second_interval
                )
                assert f">{rate}</td>" in page
        assert page.count('<details class="case"') == len(sweep.cases)

    def test_a_column_that_no_case_knows_is_left_out_and_named(self, page: str, sweep: Report) -> None:
        assert "Unknown for every case" not in page
        without = tuple(
            replace(c, summary=replace(c.summary, power_w=None, mfu=None)) if c.summary else c
            for c in sweep.cases
        )
        shown = render_page([replace(sweep, cases=without)])
        assert "Unknown for every case and left out: MFU, power." in shown
        heads = re.findall(r'<th scope="col" class="number" title="[^"]*">([^<]+)</th>', shown)
        assert not {"MFU", "power"} & set(heads)
        on_cpu = render_page([make_report("cpu")])
        (named,) = re.findall(r"Unknown for every case and left out: ([^.<]+)", on_cpu)
        assert "MFU" in named
        assert "peak alloc" not in named  # a CPU has none to be known

    @pytest.mark.parametrize("complete", [True, False])
    @pytest.mark.parametrize("device", ["cuda", "cpu"])
    def test_any_report_has_a_page(self, device: str, complete: bool) -> None:
        report = make_report(device, complete=complete)
        outline = Outline(render_page([report]))
        assert outline.open == []
        assert outline.tags.count("details") > len(report.cases)

    def test_an_interrupted_report_does_not_deny_the_figures_that_it_has(self) -> None:
        report = make_report()
        early = [replace(c, outcome=None, reason="the run was ended") for c in report.cases if c.summary]
        found = answer(replace(report, cases=tuple(early), complete=False))
        assert found.best is None
        assert found.bottleneck.startswith("No case of this report ended ok; the table has the figures")

    def test_a_report_without_any_figure(self) -> None:
        report = make_report()
        bare = tuple(replace(c, summary=None, attempts=(), outcome=None, reason=None) for c in report.cases)
        page = render_page([replace(report, cases=bare, complete=False)])
        assert "No case of this report has a figure." in page
        assert page.count("its turn had not come") == 2 * len(bare)
        assert "throughput: no configuration was measured with two batch sizes" in page


@settings(max_examples=12)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="<>/&;\"'=!-{}% ab", max_size=60)))
@example(" ")
@example("\u200b")
def test_any_text_keeps_to_its_place(text: str) -> None:
    encodable = text.encode("utf-8", "replace").decode()
    assert (
        Outline(render_table(hostile_report(encodable))).tags
        == Outline(render_table(hostile_report("x"))).tags
    )


class TestAnswer:
    def test_the_quickest_case_of_the_workload_with_most_cases(self, sweep: Report) -> None:
        found = answer(sweep)
        assert found.device == "NVIDIA H100 80GB HBM3"
        assert found.best is not None
        assert found.best.label == "reference-cnn b512 bf16"
        assert found.others == ()
        summary = sweep.cases[found.best.place].summary
        assert summary is not None
        assert [meter.share for meter in found.meters] == [summary.mfu, summary.ceiling_fraction]
        assert found.bottleneck == "Held back by compute (likely): the device's arithmetic."
        assert found.next_step is not None
        assert found.next_step.endswith("(1.04 to 1.18 times the rate)")
        assert ("cases ok", "23 of 24") in found.facts

    def test_samples_of_other_workloads_are_not_compared(self) -> None:
        found = answer(make_report())
        assert found.best is not None
        assert found.best.workload == "reference-cnn"
        assert [best.workload for best in found.others] == ["small-cnn"]

    def test_an_invalid_case_is_never_the_best(self) -> None:
        report = make_report()
        first = answer(report).best
        assert first is not None
        cases = list(report.cases)
        cases[first.place] = replace(
            cases[first.place], outcome="invalid", reason="it computes something else"
        )
        second = answer(replace(report, cases=tuple(cases))).best
        assert second is not None
        assert second.place != first.place

    def test_what_is_unknown_is_said(self) -> None:
        found = answer(make_report("cpu"))
        assert found.meters == ()
        assert found.no_ceiling is not None
        assert "benchbox hw init" in found.no_ceiling
        assert found.bottleneck == (
            "unknown (unsure): what holds it back could not be told from what was measured."
        )

    def test_a_report_from_before_there_were_verdicts_shows_its_longest_phase(self) -> None:
        report = make_report("cpu")
        old = replace(report, cases=tuple(replace(case, diagnosis=None) for case in report.cases))
        found = answer(old)
        assert found.bottleneck.endswith("what holds it back was not diagnosed in this report.")
        assert "backward (51 %)" in found.bottleneck

    @pytest.mark.parametrize("bottleneck", [*BOTTLENECKS, "unknown"])
    def test_every_verdict_is_a_sentence(self, bottleneck: str, sweep: Report) -> None:
        diagnosis = Diagnosis(bottleneck=bottleneck, sureness="sure", evidence=(), next_step=None)  # type: ignore[arg-type]
        report = replace(sweep, cases=tuple(replace(c, diagnosis=diagnosis) for c in sweep.cases))
        sentence = answer(report).bottleneck
        assert sentence.endswith(".")
        unknown = bottleneck == "unknown"
        assert sentence.startswith("unknown (sure): " if unknown else f"Held back by {bottleneck} (sure): ")


class TestSideBySide:
    def test_ratios_carry_both_intervals(self) -> None:
        one = make_sweep(batches=(16,), precisions=("bf16",))
        two = make_sweep(batches=(16,), precisions=("bf16",), slower=2, name="other")
        cases = [
            replace(
                report.cases[0],
                summary=replace(
                    report.cases[0].summary,
                    samples_per_second=rate,
                    samples_per_second_interval=Interval(low=rate / 1.03, high=rate * 1.03),
                ),
            )
            for report, rate in ((one, 100.0), (two, 50.0))
        ]
        reports = [replace(r, cases=(case,)) for r, case in zip((one, two), cases, strict=True)]
        rows = configurations(reports, compare_with_first(reports, ["one", "two"]))
        (row,) = rows
        first, second = row.entries
        assert first is not None
        assert second is not None
        assert (first.ratio, first.width, second.width) == (None, 100, 50)
        assert first.marks == second.marks == ()
        assert second.ratio == "0.500 × (0.480 to 0.521)"  # 1.03 to the power of the root of two

    def test_a_configuration_of_one_report_alone_is_left_out(self) -> None:
        one = make_sweep(batches=(16, 32), precisions=("bf16",))
        two = make_sweep(batches=(16,), precisions=("bf16", "fp32"), name="other")
        labels = [row.label for row in configurations([one, two], compare_with_first([one, two], ["a", "b"]))]
        assert labels == ["reference-cnn b16 bf16", "reference-cnn b16 bf16 ckpt"]

    def test_verdicts_are_the_comparisons(self) -> None:
        one = make_sweep(batches=(16, 64), precisions=("bf16",))
        two = make_sweep(
            batches=(16, 64), precisions=("bf16",), slower=1.2, created_at="2026-02-05T12:34:56+00:00"
        )
        names = report_labels([one, two])
        (comparison,) = compare_with_first([one, two], names)
        for row, case in zip(configurations([one, two], [comparison]), comparison.cases, strict=True):
            _, second = row.entries
            assert second is not None
            assert case.verdict == "slower"
            assert second.marks[0] == Mark("slower", "worse")
            assert second.ratio == f"{ratio_text(case.metrics[0])} × ({interval_text(case.metrics[0])})"
            assert any(mark.text.startswith("energy +") for mark in second.marks)
        assert verdicts(comparison).sentence == f"{counts_sentence(comparison)}."
        page = render_page([one, two])
        assert page.count('<span class="verdict-mark worse">slower</span>') == len(comparison.cases)
        assert html.escape(rule_sentence(comparison)) in page

    def test_different_devices_get_ratios_and_no_verdict(self) -> None:
        one = make_sweep(batches=(16,), precisions=("bf16",))
        two = make_sweep(batches=(16,), precisions=("bf16",), slower=2, name="other")
        comparisons = compare_with_first([one, two], report_labels([one, two]))
        for row in configurations([one, two], comparisons):
            _, second = row.entries
            assert second is not None
            assert second.marks == ()
            assert second.ratio is not None
            assert second.ratio.startswith("0.500 ×")
        page = render_page([one, two])
        assert (
            "2 not-comparable. No verdict, unless that is the point: benchbox compare --across device."
            in page
        )
        assert "differs: devices.name: NVIDIA H100 80GB HBM3 -&gt; other" in page
        assert "verdict-mark" not in page.partition("</style>")[2]

    def test_a_case_that_does_not_end_ok_any_more_is_a_regression(self) -> None:
        one = make_sweep(batches=(16, 64), precisions=("bf16",))
        failed = replace(one.cases[0], outcome="oom", reason="out of memory", summary=None, attempts=())
        two = replace(one, cases=(failed, *one.cases[1:]))
        rows = configurations([one, two], compare_with_first([one, two], ["a", "b"]))
        entry = rows[0].entries[1]
        assert entry is not None
        assert (entry.rate, entry.outcome, entry.marks) == (None, "oom", (Mark("regression", "worse"),))


class TestHistory:
    @pytest.fixture
    def reports(self) -> list[Report]:
        return [
            make_sweep(
                batches=(16, 64),
                precisions=("bf16",),
                slower=1.0 if day < 4 else 1.1,
                created_at=f"2026-01-{day + 1:02d}T00:00:00+00:00",
            )
            for day in range(8)
        ]

    def test_a_page_of_many_reports_shows_where_the_level_changed(self, reports: list[Report]) -> None:
        page = render_page(reports)
        assert '<section id="history">' in page
        assert "4 cases −9.1 % from 2026-01-05 00:00 on" in page
        assert "<h2>8 reports</h2>" in page
        assert '<article class="answer">' not in page
        assert page.count("<figure>") == len(set(re.findall(r'aria-label="Data of ([^"]+),', page)))

    def test_two_reports_are_no_history(self, reports: list[Report]) -> None:
        assert '<section id="history">' not in render_page(reports[:2])

    def test_of_many_reports_the_newest_of_a_device_is_drawn(self, reports: list[Report]) -> None:
        _, figures, missing = pictures([*reversed(reports), make_sweep(batches=(16, 64), name="other")], [])
        assert [figure.name for figure in figures].count("roofline0") == 1
        assert any("the newest of a device" in text for text in missing)
        memory = next(figure.plot for figure in figures if figure.name == "memory")
        assert len(memory.rows) == 4 + 8
        assert not any("roofline2" in figure.name for figure in figures)


class TestFromFiles:
    """What ``compare``, ``history`` and ``plan`` write, on a page without reports and beside one."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Path]:
        one = make_sweep(batches=(16, 64), precisions=("bf16",))
        two = make_sweep(batches=(16, 64), precisions=("bf16",), slower=1.2)
        comparison = compare_with_first([one, two], ["<b>base</b>", "new"])
        prices = Prices(
            currency="EUR", date=date(2026, 1, 5), device=(DevicePrice(name="A100-SXM4-80GB", per_hour=2.0),)
        )
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",), counts=(1, 2, 4))
        result = plan_job([simple_report()], job, 10**9, None, prices, load_profiles(), 100)
        files = {name: tmp_path / f"{name}.json" for name in ("report", "comparison", "history", "plan")}
        write_report(one, files["report"])
        files["comparison"].write_text(render_comparison_json(comparison))
        days = [replace(one, created_at=f"2026-01-0{day}T00:00:00Z") for day in (1, 2)]
        course = history_of([rates_of(f"day {day}", report) for day, report in enumerate(days)])
        files["history"].write_text(indented_json(course))
        files["plan"].write_text(render_plan_json(result))
        return files

    def test_each_kind_is_known_by_what_stands_in_it(self, files: dict[str, Path]) -> None:
        found = read_documents([files[name] for name in ("plan", "history", "comparison", "report")])
        assert [len(kind) for kind in found] == [1, 1, 1, 1]
        page = render_page(*found)
        assert Outline(page).open == []
        for place in ('id="answer"', 'id="comparison0"', 'id="history"', 'id="plan0-section"', 'id="cases"'):
            assert place in page
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids))

    @pytest.mark.parametrize(
        ("name", "by"), [("comparison", "compare"), ("history", "history"), ("plan", "plan")]
    )
    def test_where_a_report_is_wanted_it_is_named_for_what_it_is(
        self, name: str, by: str, files: dict[str, Path]
    ) -> None:
        for read in (read_report, read_times):
            with pytest.raises(BadInputError) as caught:
                read(files[name])
            assert f"{name}.json: the JSON of `benchbox {by}`, not a report; " in str(caught.value)

    def test_a_history_alone(self, files: dict[str, Path]) -> None:
        page = render_page(*read_documents([files["history"]]))
        assert "<title>History · benchbox</title>" in page
        assert "Samples/s of 4 cases over 2 reports" in page
        assert Outline(page).open == []

    def test_a_plan_alone(self, files: dict[str, Path]) -> None:
        found = read_documents([files["plan"]])
        page = render_page(*found)
        for line in (*plan_answers(found.plans[0]), *plan_closing(found.plans[0], 100)):
            assert html.escape(line) in page
        assert "<title>Plan · benchbox</title>" in page
        assert "no other beats" in page
        assert page.count('<th scope="row">') == len(found.plans[0].configurations)
        assert 'id="cases"' not in page

    def test_a_plans_figures_stand_with_their_intervals(self) -> None:
        prices = Prices(
            currency="EUR",
            date=date(2026, 1, 5),
            grid_g_co2_per_kwh=400,
            device=(DevicePrice(name="A100-SXM4-80GB", per_hour=2.0),),
        )
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",), counts=(1, 2, 4))
        result = plan_job([simple_report()], job, 10**9, None, prices, load_profiles(), 2)
        page = render_page([], plans=[result])
        assert page.count('<th scope="col" class="number">80 %</th>') == 4
        shown = len(result.configurations)
        assert shown < 6
        assert f"{shown} of 6 configurations are shown, the best first" in page
        for one in result.configurations:
            assert one.energy_j is not None
            assert one.carbon_g is not None
            for estimate, unit in ((one.energy_j, 3.6e6), (one.carbon_g, 1e3)):
                spread = "–".join(significant(end / unit) for end in (estimate.low, estimate.high))
                assert f'<td class="number">{spread}</td>' in page
        assert page.count("<td>fits</td>") == len(result.configurations)

    @pytest.mark.parametrize("name", ["comparison", "history", "plan"])
    def test_each_kind_has_a_version_and_a_newer_one_is_refused_by_it(
        self, name: str, files: dict[str, Path]
    ) -> None:
        document = json.loads(files[name].read_text())
        assert document["schema_version"] == SCHEMA_VERSION

        def read(**changes: object) -> Documents:
            files[name].write_text(json.dumps({**document, **changes}))
            return read_documents([files[name]])

        told = f"{name}.json: written by a newer benchbox (schema {SCHEMA_VERSION + 1}; this one reads up to"
        for more in ({}, {"a_field_of_later": 1}):
            with pytest.raises(BadInputError, match=re.escape(told)) as caught:
                read(schema_version=SCHEMA_VERSION + 1, **more)
            assert "\n" not in str(caught.value)
        with pytest.raises(BadInputError, match=f"not a {name}"):
            read(a_field_of_later=1)
        with pytest.raises(BadInputError, match="the first version is 1"):
            read(schema_version=0)
        del document["schema_version"]
        assert sum(map(len, read())) == 1

    def test_a_plan_without_prices_says_so(self) -> None:
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",))
        result = plan_job([simple_report()], job, 10**9, None, None, load_profiles(), 100)
        page = render_page([], plans=[result])
        assert "no configuration has a price" in page
        assert "<svg" not in page

    def test_what_is_late_is_explained_where_something_is(self) -> None:
        job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",))
        for deadline_s, explained in ((10**9, False), (1, True)):
            result = plan_job([simple_report()], job, 10**9, deadline_s, None, load_profiles(), 100)
            page = render_page([], plans=[result])
            assert ("late</td>" in page) is explained
            assert ("late, dear: breaks the deadline" in page) is explained

    def test_many_differences_of_two_machines_are_folded(self) -> None:
        page = render_page([make_report(), make_report("cpu")])
        assert re.search(r"<details class=\"quiet\"><summary>Differences \(\d+\)</summary><ul", page)
        assert Outline(page).open == []

    def test_a_comparison_alone(self, files: dict[str, Path]) -> None:
        page = render_page(*read_documents([files["comparison"]]))
        assert page.count('<span class="verdict-mark worse">slower</span>') == 4
        assert "&lt;b&gt;base&lt;/b&gt;" in page
        assert "<b>base</b>" not in page

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ('{"comparisons": [{}]}', "not a comparison; benchbox compare"),
            ('{"comparisons": 1}', "not a comparison; benchbox compare"),
            ('{"configurations": []}', "not a plan; benchbox plan"),
            ("[1]", "expected `object`"),
            ("{", "not valid JSON"),
            ('{"environment":' + "[" * 100_000, "nested too deeply"),
        ],
    )
    def test_what_is_neither_is_refused_in_one_line(self, text: str, told: str, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(BadInputError, match=re.escape(told)) as caught:
            read_documents([tmp_path / "x.json"])
        assert "\n" not in str(caught.value)


class TestWords:
    def test_a_hint_of_many_cases_is_one_line_with_the_range_of_its_shares(self) -> None:
        told = ("held its clocks back in {} % of the telemetry samples", "had not settled ({} of 3 attempts)")
        report = make_report()
        cases = tuple(
            replace(c, hints=(told[0].format(f"{5 + place}.5"), told[1].format(min(place + 1, 3))))
            for place, c in enumerate(report.cases)
        )
        labels = case_labels([result.case for result in report.cases])
        assert case_hints(replace(report, cases=cases), labels) == [
            "every case: held its clocks back in 5.5 to 12.5 % of the telemetry samples",
            "every case: had not settled (1 to 3 of 3 attempts)",
        ]
        assert case_hints(replace(report, cases=cases[:1]), labels)[1].endswith(
            "had not settled (1 of 3 attempts)"
        )

    def test_the_page_says_what_diagnose_says(self, sweep: Report) -> None:
        report = rediagnosed(sweep)
        page = html.unescape(render_page([report]))
        labels = case_labels([result.case for result in report.cases])
        num_lines = 0
        for result in report.cases:
            head, *lines = full_text(report, result, labels[result.case.case_id]).splitlines()
            assert result.diagnosis is None or head.partition(": ")[2] in page
            for line in lines:
                assert line.strip().removeprefix("· ").removeprefix("next: ") in page
                num_lines += 1
        assert num_lines > 2 * len(report.cases)

    def test_a_star_stands_where_the_footnote_speaks_of_one(self) -> None:
        page = render_page([hostile_report("x")])
        assert STAR in page
        assert re.search(r"<td data-value=\"[^\"]+\">± [\d.]+ %\*</td>", page)


class TestShapes:
    def test_a_histogram_counts_every_step_once(self) -> None:
        times = [1_000_000 + 1000 * place for place in range(100)] + [9_000_000] * 3
        shape = histogram(times, 1_050_000, 1_095_000)
        assert shape is not None
        counts = [int(line.split("\t")[1]) for line in shape.data.splitlines()[1:]]
        assert sum(counts) == 103
        assert shape.num_beyond == counts[-1] == 3
        assert histogram(times[:7], 1, 1) is None
        assert histogram([5_000_000] * 20, 5_000_000, 5_000_000) is not None

    def test_a_cases_memory_ends_at_its_estimated_peak(self, sweep: Report) -> None:
        result = sweep.cases[0]
        view = detail(sweep, result, "x", 10).memory
        estimate = result.memory_estimate
        assert view is not None
        assert view.interval is not None
        assert estimate is not None
        assert result.summary is not None
        scale = (view.boxes[-1].x + view.boxes[-1].width) / estimate.peak_device_bytes
        assert [mark.x / scale for mark in view.marks] == pytest.approx(
            [
                result.summary.peak_memory_allocated_bytes,
                result.summary.peak_memory_reserved_bytes,
                result.summary.device_memory_used_bytes,
            ]
        )
        ends = (view.interval.x, view.interval.x + view.interval.width)
        interval = estimate.peak_device_interval_bytes
        assert [end / scale for end in ends] == pytest.approx([interval.low, interval.high])
        rows = {name: (estimated, measured) for name, estimated, measured in view.rows}
        for name in ("peak allocated", "reserved", "used on the device"):
            assert "–" not in rows[name]

    def test_a_cases_roof_is_that_of_its_verdict(self) -> None:
        """A class that moves more than the probe did is itself the ceiling, of the verdict and the panel."""
        report = make_sweep(batches=(512,), precisions=("bf16",))
        assert report.ceilings is not None
        slow = replace(report.ceilings, device_copy_bytes_per_s=1e11)
        report = replace(report, ceilings=slow, hardware_profile=None)
        result = report.cases[0]
        (roof,) = known_roofs(report, [result])
        assert roof.bytes_per_s is not None
        assert roof.bytes_per_s > 5e11
        place = next(p for p, _, _ in class_places(report, result) if p.operator_class == "matmul")
        assert roof.bend("bf16") == pytest.approx(place.ridge)

    def test_the_dot_lies_under_its_roof(self) -> None:
        roofs = [Roofs("vendor", {"bf16": 100.0}, 1e12)]
        at_roof = roofline_dot(Point("x", "bf16", 10.0, 10.0), roofs)
        below = roofline_dot(Point("x", "bf16", 10.0, 5.0), roofs)
        assert at_roof is not None
        assert below is not None
        assert below.y > at_roof.y
        assert below.place == "10.0 FLOP/byte, 5.00 TFLOP/s"
        assert below.sentences == ("vendor: 50.0 % of 10.0 TFLOP/s, a roof of memory bandwidth",)
        assert roofline_dot(Point("x", "fp32", 10.0, 5.0), roofs) is None


def test_a_profile_without_peaks_gives_no_meter() -> None:
    report = make_sweep(batches=(16,))
    cases = tuple(
        replace(c, summary=replace(c.summary, mfu=None, mfu_peak_tflops=None, ceiling_fraction=None))
        for c in report.cases
        if c.summary
    )
    found = answer(replace(report, cases=cases, hardware_profile=make_profile()))
    assert found.meters == ()
    assert found.no_ceiling is not None
    assert "neither a probe of this run nor a hardware profile has a rate in bf16" in found.no_ceiling


def test_a_run_that_probed_does_not_blame_the_missing_profile() -> None:
    report = make_sweep(batches=(16,), precisions=("bf16",))
    cases = tuple(
        replace(c, summary=replace(c.summary, mfu=None, mfu_peak_tflops=None, ceiling_fraction=None))
        for c in report.cases
        if c.summary
    )
    bare = replace(report, cases=cases, hardware_profile=None)
    assert bare.ceilings is not None
    told = answer(bare).no_ceiling
    assert told is not None
    assert "hw init" not in told
    assert told.endswith("has a rate in bf16.")
    told = answer(replace(bare, ceilings=None)).no_ceiling
    assert told is not None
    assert "this run did not probe" in told
    assert "benchbox hw init" in told
    uncounted = tuple(
        replace(c, summary=replace(c.summary, achieved_tflops=None)) for c in cases if c.summary
    )
    told = answer(replace(bare, cases=uncounted)).no_ceiling
    assert told is not None
    assert told.endswith("its FLOPs were not counted.")


def test_what_stands_between_backticks_is_code_and_never_markup() -> None:
    assert with_code("call `a <b>` first") == "call <code>a &lt;b&gt;</code> first"
    assert with_code("a ` alone <i>") == "a ` alone &lt;i&gt;"
