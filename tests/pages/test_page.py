"""What a page holds, without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.report.html.answer import BOTTLENECKS, answer
from benchbox.report.html.page import render_page
from benchbox.report.html.shapes import histogram, roofline_dot
from benchbox.report.html.side_by_side import configurations
from benchbox.report.html.table import render_table
from benchbox.report.plots.roofline import Point, Roofs
from benchbox.report.text import significant
from benchbox.schema import Diagnosis, Interval, Report
from tests.factories import hostile_report, make_profile, make_report
from tests.pages.data import make_sweep

VOID = {"meta", "br", "input", "rect", "path", "circle", "use", "i"}


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
                assert f">{significant(result.summary.samples_per_second, 4)}</td>" in page
        assert page.count('<details class="case"') == len(sweep.cases)

    @pytest.mark.parametrize("complete", [True, False])
    @pytest.mark.parametrize("device", ["cuda", "cpu"])
    def test_any_report_has_a_page(self, device: str, complete: bool) -> None:
        report = make_report(device, complete=complete)
        outline = Outline(render_page([report]))
        assert outline.open == []
        assert outline.tags.count("details") > len(report.cases)

    def test_a_report_without_any_figure(self) -> None:
        report = make_report()
        bare = tuple(replace(c, summary=None, attempts=(), outcome=None, reason=None) for c in report.cases)
        page = render_page([replace(report, cases=bare, complete=False)])
        assert "No case of this report has a figure." in page
        assert page.count("its turn had not come") == 2 * len(bare)
        assert "throughput: no configuration was measured with two batch sizes" in page


@settings(max_examples=12, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="<>/&;\"'=!-{}% ab", max_size=60)))
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
        assert found.bottleneck == "Most likely held back by the device's arithmetic."
        assert found.next_step is not None
        assert "per_device_batch_size = 1024: foretold 1.04 to 1.18 times as fast" in found.next_step
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
        assert found.bottleneck == "What holds it back could not be told from what was measured."

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
        assert sentence.startswith("What holds it back" if bottleneck == "unknown" else "Held back by ")


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
        rows = configurations([replace(r, cases=(case,)) for r, case in zip((one, two), cases, strict=True)])
        (row,) = rows
        first, second = row.entries
        assert first is not None
        assert second is not None
        assert (first.ratio, first.width, second.width) == (None, 100, 50)
        assert second.ratio == "0.500 × (0.480 to 0.521)"  # 1.03 to the power of the root of two

    def test_a_configuration_of_one_report_alone_is_left_out(self) -> None:
        one = make_sweep(batches=(16, 32), precisions=("bf16",))
        two = make_sweep(batches=(16,), precisions=("bf16", "fp32"), name="other")
        labels = [row.label for row in configurations([one, two])]
        assert labels == ["reference-cnn b16 bf16", "reference-cnn b16 bf16 ckpt"]


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

    def test_the_dot_lies_under_its_roof(self) -> None:
        roofs = [Roofs("vendor", {"bf16": 100.0}, 1e12)]
        at_roof = roofline_dot(Point("x", "bf16", 10.0, 10.0), roofs)
        below = roofline_dot(Point("x", "bf16", 10.0, 5.0), roofs)
        assert at_roof is not None
        assert below is not None
        assert below.y > at_roof.y
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
    assert "FLOPs" in found.no_ceiling
