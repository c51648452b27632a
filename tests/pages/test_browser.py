"""Pages in a real browser: what they ask for, what their controls do, and that text stays text."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from benchbox.analyze.plan import plan as plan_job
from benchbox.plan.hardware import load_profiles
from benchbox.report.files import read_report
from benchbox.report.html.page import render_page
from benchbox.report.html.side_by_side import compare_with_first
from benchbox.schema import DevicePrice, PlanJob, Prices, Report
from tests.factories import hostile_report, make_report
from tests.pages.browser import complaints, requested, set_view
from tests.pages.data import make_sweep
from tests.plans import simple_report
from tests.runs import wait_until

Open = Callable[..., webdriver.Chrome]
COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*/*/report.json"))
TAGS = (
    "const tags = {}; for (const e of document.querySelectorAll(':not(svg *)'))"
    " tags[e.tagName] = (tags[e.tagName] || 0) + 1; return tags"
)
DRAWN = "return Array.from(new Set(Array.from(document.querySelectorAll('svg *'), e => e.tagName)))"
ALL_NODES = "return document.querySelectorAll('*').length"
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"

OUTSIDE = (
    "const free = (e) => !e.closest('.scroll, .hidden, pre');"
    "const right = (e) => e.getBoundingClientRect().right;"
    "return Array.from(document.querySelectorAll('main *'))"
    ".filter((e) => free(e) && right(e) > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
)


def written(folder: Path, *reports: Report) -> Path:
    path = folder / "page.html"
    path.write_text(render_page(reports), encoding="utf-8")
    return path


def shown(browser: webdriver.Chrome) -> list[str]:
    """The names of the table's cases that are to be seen, in their order."""
    return browser.execute_script(
        "return Array.from(document.querySelectorAll('#table tbody tr:not([hidden]) th'), h => h.innerText)"
    )


def column(browser: webdriver.Chrome, title: str) -> list[str]:
    return browser.execute_script(
        "const place = Array.from(document.querySelectorAll('#table thead th'),"
        " h => h.innerText.trim()).indexOf(arguments[0]);"
        "return Array.from(document.querySelectorAll('#table tbody tr:not([hidden])'),"
        " r => r.cells[place] && r.cells[place].colSpan === 1 ? r.cells[place].innerText : null)",
        title,
    )


def head(browser: webdriver.Chrome, title: str) -> webdriver.remote.webelement.WebElement:
    heads = browser.find_elements(By.CSS_SELECTOR, "#table thead th")
    return next(one for one in heads if one.text.strip().startswith(title))


class TestLoading:
    @pytest.mark.parametrize("dark", [False, True])
    def test_from_disk_with_no_error_and_no_request_to_anywhere(
        self, dark: bool, sweep_page: Path, opened: Open
    ) -> None:
        browser = opened(sweep_page, dark=dark)
        browser.find_element(By.ID, "open-all").click()
        assert requested(browser) == [sweep_page.as_uri()]
        assert complaints(browser) == []
        assert browser.find_element(By.TAG_NAME, "h1").text == "NVIDIA H100 80GB HBM3"

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "-".join(path.parts[-3:-1]))
    def test_a_committed_reports_page(self, path: Path, tmp_path: Path, opened: Open) -> None:
        report = read_report(path)
        page = written(tmp_path, report)
        browser = opened(page)
        assert requested(browser) == [page.as_uri()]
        assert complaints(browser) == []
        assert len(shown(browser)) == len(report.cases)
        for dark in (False, True):
            for width in (360, 768, 1280):
                set_view(browser, width, dark=dark)
                assert browser.execute_script(OVERFLOW) <= 0, width
                assert browser.execute_script(OUTSIDE) == [], width
                assert_painted(browser, width, dark=dark)
            poor = [pair for pair in browser.execute_script(CONTRASTS) if pair[1] < 4.5]
            assert poor == []
        set_view(browser, 360)
        cut = browser.execute_script(
            "return Array.from(document.querySelectorAll('#environment .scroll'),"
            " (box) => box.scrollWidth - box.clientWidth)"
        )
        assert cut == [0]  # two columns of words fit on a telephone

    def test_the_policy_refuses_what_the_page_did_not_bring(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        browser.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            "document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
            "document.body.append(i); const b = document.createElement('div');"
            "b.innerHTML = '<p onclick=\"window.ran = 2\">x</p>'; document.body.append(b);"
            "b.firstChild.click()"
        )
        assert browser.execute_script("return window.ran === undefined")
        refused: list[str] = []
        assert wait_until(lambda: refused.extend(complaints(browser)) or len(refused) >= 3)
        assert all("Content Security Policy" in text for text in refused)

    def test_without_scripting_every_case_is_there(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        try:
            browser.get(sweep_page.as_uri())
            assert not browser.find_element(By.ID, "controls").is_displayed()
            first = browser.find_element(By.CSS_SELECTOR, "details.case")
            first.find_element(By.TAG_NAME, "summary").click()
            assert "Telemetry over measured time" in first.text
        finally:
            browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


class TestTable:
    def test_a_figure_sorts_by_its_number_and_the_unknown_stay_last(
        self, sweep_page: Path, opened: Open
    ) -> None:
        browser = opened(sweep_page)
        button = head(browser, "samples/s").find_element(By.TAG_NAME, "button")
        for order, reverse in (("descending", True), ("ascending", False)):
            button.click()
            assert head(browser, "samples/s").get_attribute("aria-sort") == order
            cells = column(browser, "samples/s")
            assert cells[-1] is None  # the one that ran out of memory
            rates = [float(text.replace(",", "")) for text in cells[:-1]]
            assert len(rates) == 23
            assert rates == sorted(rates, reverse=reverse)

    def test_units_do_not_mislead_the_order(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        head(browser, "step p50").find_element(By.TAG_NAME, "button").click()
        times = [
            float(t.split()[0]) * {"ms": 1, "s": 1000}[t.split()[1]] for t in column(browser, "step p50")[:-1]
        ]
        assert times == sorted(times, reverse=True)

    def test_only_one_heading_says_that_it_sorts(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        for title in ("power", "case"):
            head(browser, title).find_element(By.TAG_NAME, "button").click()
        assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-sort]")) == 1
        names = shown(browser)
        assert names[:3] == [f"reference-cnn b16 {end}" for end in ("bf16", "bf16 ckpt", "fp32")]
        assert names[-1] == "reference-cnn b512 fp32 ckpt"

    def test_sorting_by_keyboard(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        before = shown(browser)
        head(browser, "power").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert head(browser, "power").get_attribute("aria-sort") == "descending"
        assert sorted(shown(browser)) == sorted(before) != before

    def test_filters_and_search_show_what_fits_and_say_how_many(
        self, sweep_page: Path, sweep: Report, opened: Open
    ) -> None:
        browser = opened(sweep_page)
        count = browser.find_element(By.ID, "count")
        assert count.text == "24 cases"
        choose(browser, "precision", "bf16")
        assert len(shown(browser)) == 12
        choose(browser, "checkpointing", "no")
        assert count.text == "6 of 24 cases"
        assert all("bf16" in name and "ckpt" not in name for name in shown(browser))
        browser.find_element(By.ID, "search").send_keys("B64  cnn")
        assert shown(browser) == ["reference-cnn b64 bf16"]
        shown_details = browser.find_elements(By.CSS_SELECTOR, "details.case:not([hidden])")
        assert len(shown_details) == 1
        browser.find_element(By.CSS_SELECTOR, "#controls [type=reset]").click()
        assert len(shown(browser)) == len(sweep.cases)
        assert count.text == "24 cases"

    def test_a_failed_case_is_there_with_its_reason(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        choose(browser, "outcome", "oom")
        (row,) = browser.find_elements(By.CSS_SELECTOR, "#table tbody tr:not([hidden])")
        assert "CUDA out of memory: tried to allocate 23.91 GiB" in row.text
        browser.find_element(By.ID, "search").send_keys("nothing is called so")
        assert browser.find_element(By.ID, "count").text == "0 of 24 cases"

    def test_a_link_opens_its_case_with_everything_measured(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        before = browser.execute_script(ALL_NODES)
        link = next(
            one for one in browser.find_elements(By.CSS_SELECTOR, "#table a") if "b64 bf16" in one.text
        )
        link.click()
        case = browser.find_element(By.ID, str(link.get_attribute("href")).partition("#")[2])
        # The browser tells the page of its new address when it comes to it.
        WebDriverWait(browser, 10).until(lambda _: case.get_attribute("open") is not None)
        for title in ("Step times", "Phases of a step", "Memory", "Place under the roofline", "Telemetry"):
            assert title in case.text
        assert "Power or heat held the clocks back" in case.text
        assert browser.execute_script(ALL_NODES) > before + 50

    @pytest.mark.parametrize("already_there", [False, True])
    def test_a_link_to_a_case_that_a_filter_hides_shows_it(
        self, already_there: bool, sweep_page: Path, sweep: Report, opened: Open
    ) -> None:
        browser = opened(sweep_page)
        link = browser.find_element(By.CSS_SELECTOR, ".best a")
        case = browser.find_element(By.ID, str(link.get_attribute("href")).partition("#")[2])
        if already_there:
            link.click()
        choose(browser, "precision", "fp32")
        assert not case.is_displayed()
        link.click()
        WebDriverWait(browser, 10).until(lambda _: case.is_displayed())
        assert "Step times" in case.text
        assert len(shown(browser)) == len(sweep.cases)
        assert browser.find_element(By.ID, "count").text == "24 cases"

    def test_after_coming_back_the_table_is_what_the_filters_say(
        self, sweep_page: Path, tmp_path: Path, opened: Open
    ) -> None:
        browser = opened(sweep_page)
        choose(browser, "precision", "bf16")
        other = tmp_path / "other.html"
        other.write_text("<!doctype html><title>x</title>elsewhere", encoding="utf-8")
        browser.get(other.as_uri())
        browser.back()
        values = "return Array.from(document.querySelectorAll('#controls select'), (s) => s.value)"
        WebDriverWait(browser, 10).until(lambda _: "bf16" in browser.execute_script(values))
        WebDriverWait(browser, 10).until(lambda _: len(shown(browser)) == 12)
        assert browser.find_element(By.ID, "count").text == "12 of 24 cases"


class TestReaders:
    def test_everything_to_act_on_has_a_name(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        browser.find_element(By.CSS_SELECTOR, "details.case summary").click()
        tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        seen: dict[str, list[str]] = {}
        for node in tree:
            if not node.get("ignored"):
                role = node["role"]["value"]
                seen.setdefault(role, []).append(node.get("name", {}).get("value", "").strip())
        for role in ("button", "combobox", "searchbox", "link", "region", "image", "table", "columnheader"):
            assert seen.get(role), role
            assert all(seen[role]), (role, seen[role])
        assert {"Search", "precision", "outcome"} <= {*seen["searchbox"], *seen["combobox"]}
        assert any(name.startswith("Samples per second over batch size") for name in seen["image"])
        assert "status" in seen

    def test_tables_say_what_their_headings_head(self, sweep_page: Path, opened: Open) -> None:
        browser = opened(sweep_page)
        browser.find_element(By.ID, "open-all").click()
        assert browser.execute_script(NAMELESS) == []

    def test_the_keyboard_goes_through_the_page_from_top_to_bottom(
        self, sweep_page: Path, opened: Open
    ) -> None:
        browser = opened(sweep_page)
        assert (
            browser.execute_script(
                "return document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length"
            )
            == 0
        )
        keys = ActionChains(browser)
        keys.send_keys(Keys.TAB).perform()
        skip = browser.switch_to.active_element
        assert skip.text == "Skip to the cases"
        assert skip.rect["x"] >= 0  # to be seen while it has the focus
        skip.send_keys(Keys.ENTER)
        keys.send_keys(Keys.TAB).perform()
        assert browser.switch_to.active_element.get_attribute("id") == "search"
        tops = []
        for _ in range(40):
            keys.send_keys(Keys.TAB).perform()
            tops.append(
                browser.execute_script(
                    "const box = document.activeElement.getBoundingClientRect(); return box.top + scrollY"
                )
            )
        # The focus moves along a row, and then down; what scrolls sideways comes before what is in it.
        assert all(after > before - 40 for before, after in pairwise(tops))
        assert tops[-1] > tops[0] + 300

    @pytest.mark.parametrize("dark", [False, True])
    def test_text_stands_out_from_what_is_behind_it(self, dark: bool, sweep_page: Path, opened: Open) -> None:
        """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
        browser = opened(sweep_page, dark=dark)
        pairs = browser.execute_script(CONTRASTS)
        assert len(pairs) > 20
        poor = [(text, ratio) for text, ratio in pairs if ratio < 4.5]
        assert poor == []


@pytest.mark.parametrize("width", [390, 800, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_and_the_screen_is_painted(
    width: int, dark: bool, sweep_page: Path, opened: Open
) -> None:
    browser = opened(sweep_page, width, dark=dark)
    browser.find_element(By.CSS_SELECTOR, "details.case summary").click()
    assert browser.execute_script(OVERFLOW) <= 0
    assert browser.execute_script(OUTSIDE) == []
    assert_painted(browser, width, dark=dark)


def assert_painted(browser: webdriver.Chrome, width: int, *, dark: bool) -> None:
    """The screen is as wide as asked for, of the asked-for tone, and not empty."""
    image = Image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))).convert("L")
    assert image.width == width
    colours = image.getcolors(256)
    assert colours is not None
    background = max(colours)[1]
    assert (background < 60) if dark else (background > 200)
    assert len(colours) > 30


def test_on_paper_nothing_is_cut_off_and_nothing_is_dark(sweep_page: Path, opened: Open) -> None:
    browser = opened(sweep_page, 794, dark=True)  # A4 at 96 pixels an inch, without margins
    browser.find_element(By.CSS_SELECTOR, "details.case summary").click()
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    try:
        assert browser.execute_script(OVERFLOW) <= 0
        assert not browser.find_element(By.ID, "controls").is_displayed()
        cases = browser.find_elements(By.CSS_SELECTOR, "details.case")
        assert [case.is_displayed() for case in cases] == [True] + [False] * (len(cases) - 1)
        background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"
        browser.execute_script("document.querySelector('details.case[open]').open = false")
        assert not browser.find_element(By.ID, "details").is_displayed()  # a heading with nothing below it
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_wide_screen_shows_every_column(sweep_page: Path, opened: Open) -> None:
    browser = opened(sweep_page, 1920)
    assert browser.execute_script(OVERFLOW) <= 0
    hidden = "const box = document.querySelector('#cases .scroll'); return box.scrollWidth - box.clientWidth"
    assert browser.execute_script(hidden) == 0
    set_view(browser, 1440)  # where it cannot, the table scrolls and the page does not
    assert browser.execute_script(hidden) > 0
    assert browser.execute_script(OVERFLOW) <= 0


def test_several_reports_stand_side_by_side(tmp_path: Path, opened: Open) -> None:
    other = make_sweep(name="NVIDIA A100-SXM4-80GB", slower=2.0, world_sizes=(1, 2))
    page = written(tmp_path, make_sweep(), other)
    browser = opened(page)
    assert requested(browser) == [page.as_uri()]
    assert complaints(browser) == []
    rows = browser.find_elements(By.CSS_SELECTOR, ".matrix tbody tr")
    assert len(rows) == 24
    assert "0.500 ×" in rows[0].text
    assert "No verdict, unless that is the point" in browser.find_element(By.ID, "side-by-side").text
    choose(browser, "report", "NVIDIA A100-SXM4-80GB")
    assert len(shown(browser)) == len(other.cases)
    for width in (390, 1440):
        set_view(browser, width)
        assert browser.execute_script(OVERFLOW) <= 0


def test_on_a_telephone_a_row_shows_its_figure_and_a_picture_is_whole(tmp_path: Path, opened: Open) -> None:
    batches = (16, 64)
    page = written(
        tmp_path, make_sweep(batches), make_sweep(batches, name="NVIDIA A100-SXM4-80GB", slower=2.0)
    )
    browser = opened(page, 360)
    place = "arguments[0].getBoundingClientRect().right"
    for cell in ("#table tbody td[data-value]", ".matrix tbody td:nth-child(2) b"):
        first = browser.find_element(By.CSS_SELECTOR, cell)
        assert first.text
        assert browser.execute_script(f"return {place} <= innerWidth", first), cell
    picture = browser.find_element(By.CSS_SELECTOR, "figure svg")
    assert browser.execute_script(f"return {place} <= innerWidth", picture)
    box = browser.find_element(By.CSS_SELECTOR, "figure .full input")
    box.click()
    assert not browser.execute_script(f"return {place} <= innerWidth", picture)  # in its own size, to scroll
    assert picture.rect["width"] >= 36 * 16
    assert browser.execute_script(OVERFLOW) <= 0
    set_view(browser, 1280)
    assert not box.is_displayed()


def test_a_shadow_says_that_something_is_beyond_an_edge(sweep_page: Path, opened: Open) -> None:
    browser = opened(sweep_page, 800)
    box = browser.find_element(By.CSS_SELECTOR, "#cases .scroll")
    browser.execute_script("arguments[0].scrollIntoView()", box)

    def edge() -> int:
        """The middle of the lightness along the right edge."""
        place = browser.execute_script(
            "const r = arguments[0].getBoundingClientRect(); return [r.right, r.top]", box
        )
        image = Image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))).convert("L")
        right, top = map(round, place)
        column = [image.getpixel((right - 2, y)) for y in range(max(top, 0) + 60, image.height - 1)]
        return sorted(column)[len(column) // 2]

    before = edge()
    browser.execute_script("arguments[0].scrollLeft = 1e5", box)
    assert before < edge() - 20


def test_a_page_of_history_comparison_and_plan_fits_and_says_nothing_aloud(
    tmp_path: Path, opened: Open
) -> None:
    batches, precisions = (16, 64), ("bf16",)
    reports = [
        make_sweep(batches, precisions, slower=1.0 if day < 3 else 1.1, created_at=f"2026-01-0{day + 1}")
        for day in range(6)
    ]
    comparison = compare_with_first(reports[:4:3], ["<img src=x>" * 9, "new"])
    job = PlanJob(samples=10**9, targets=("A100-SXM4-80GB",), counts=(1, 2, 4))
    price = DevicePrice(name="A100-SXM4-80GB", per_hour=2.0)
    prices = Prices(currency="EUR", date=date(2026, 1, 5), device=(price,))
    plan = plan_job([simple_report()], job, 10**9, None, prices, load_profiles(), 100)
    page = tmp_path / "page.html"
    page.write_text(render_page(reports, comparison, plans=[plan]), encoding="utf-8")
    browser = opened(page)
    assert requested(browser) == [page.as_uri()]
    assert complaints(browser) == []
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert len(shown(browser)) == 24
    for place in ("history", "side-by-side", "comparison0", "plan0-section"):
        (link,) = browser.find_elements(By.CSS_SELECTOR, f'nav a[href="#{place}"]')
        assert browser.find_element(By.ID, place).text.startswith(link.text)
    browser.find_element(By.ID, "open-all").click()
    assert browser.execute_script(NAMELESS) == []
    for dark in (False, True):
        for width in (390, 800, 1440):
            set_view(browser, width, dark=dark)
            assert browser.execute_script(OVERFLOW) <= 0, width
        assert [pair for pair in browser.execute_script(CONTRASTS) if pair[1] < 4.5] == []
    page.write_text(render_page([], comparison, plans=[plan]), encoding="utf-8")
    browser = opened(page, 390)
    assert complaints(browser) == []
    heights = browser.execute_script(
        "return Array.from(document.querySelectorAll('#comparison0 tbody tr'), (r) => r.offsetHeight)"
    )
    assert max(heights) < 3 * 24  # no cell makes its row taller than its words need
    assert browser.find_element(By.TAG_NAME, "h1").text == "Comparison and plan"


HOSTILE = [
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>",
    '"><svg onload=window.ran=3><a href=javascript:window.ran=4>x</a>',
    "</style></script></noscript></title></textarea><script>window.ran=5</script>",
    "<!--<script>{{ 7*7 }} {% raw %} ${7*7} $\\frac{1}{0}$ <![CDATA[ &lt;b&gt; ]]>",
    "' onfocus='window.ran=6' autofocus x='\u202e\u0000\ufffe\x1b[2J",
]


@pytest.fixture(scope="module")
def tags_of_a_harmless_page(
    browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, int]:
    page = written(tmp_path_factory.mktemp("harmless"), hostile_report("plain"), make_report())
    browser.get(page.as_uri())
    browser.find_element(By.ID, "open-all").click()
    return browser.execute_script(TAGS)


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_and_scripts_in_a_report_are_shown_and_not_obeyed(
    text: str, tmp_path: Path, tags_of_a_harmless_page: dict[str, int], opened: Open
) -> None:
    page = written(tmp_path, hostile_report(text), make_report())
    browser = opened(page)
    browser.find_element(By.ID, "open-all").click()
    assert browser.execute_script("return window.ran === undefined")
    assert requested(browser) == [page.as_uri()]
    assert complaints(browser) == []
    assert browser.execute_script(TAGS) == tags_of_a_harmless_page
    assert set(browser.execute_script(DRAWN)) <= {
        *["g", "path", "rect", "circle", "text", "tspan", "use", "defs", "clipPath"]
    }
    body = browser.execute_script("return document.body.textContent")
    assert text.partition("\u202e")[0].strip() in body


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    labels = browser.find_elements(By.CSS_SELECTOR, "#controls label")
    (label,) = [one for one in labels if one.text.splitlines()[0].strip() == name]
    Select(label.find_element(By.TAG_NAME, "select")).select_by_value(value)


NAMELESS = """
const all = (what) => Array.from(document.querySelectorAll(what));
const levels = all("h1, h2, h3, h4, h5, h6").map((head) => Number(head.tagName[1]));
return [
  ...all("th:not([scope])"),
  ...all("table").filter((one) => !one.caption?.textContent.trim() || !one.querySelector("th")),
  ...all("svg").filter((one) => one.getAttribute("aria-hidden") !== "true"
    && !(one.getAttribute("role") === "img" && one.getAttribute("aria-label"))),
  ...all("[role=region]").filter((one) => !one.getAttribute("aria-label") || one.tabIndex !== 0),
].map((one) => one.outerHTML.slice(0, 120)).concat(
  levels.filter((level, place) => level > (levels[place - 1] || 0) + 1).map((level) => `h${level} too deep`));
"""
CONTRASTS = """
const light = (c) => {
  const [r, g, b] = c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0.99) return c;
  }
  return [255, 255, 255];
};
const found = [];
for (const e of document.querySelectorAll("main *, header *, footer *")) {
  const own = Array.from(e.childNodes).filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
  if (!own || e.closest("svg, .hidden, option") || !e.getClientRects().length) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
  found.push([own.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
}
return found;
"""
