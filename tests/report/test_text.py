"""Numbers with sensible digits, and strings that cannot do harm."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchbox.report.text import (
    case_label,
    case_labels,
    clean,
    duration,
    ends_text,
    energy,
    escape_markdown,
    indented_json,
    memory,
    percent,
    plus_minus,
    rate_text,
    significant,
)
from benchbox.schema import Interval
from tests.factories import make_case


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00012345, "0.000123"),
        (0.0000123, "1.23e-05"),
        (1, "1.00"),
        (9.996, "10.0"),
        (22.244, "22.2"),
        (999.6, "1,000"),
        (1234.5, "1,234"),
        (122_813, "122,813"),
        (1e9, "1.00e+09"),
        (-3.14159, "-3.14"),
    ],
)
def test_three_significant_digits_and_never_fewer_before_the_point(value: float, text: str) -> None:
    assert significant(value) == text


def test_units() -> None:
    assert duration(7_910_000) == "7.91 ms"
    assert duration(999_900) == "1.00 ms"
    assert duration(1_440_000_000) == "1.44 s"
    assert duration(0) == "0 ns"
    assert memory(85_520_809_984) == "79.6 GiB"
    assert memory(5 * 2**20) == "5.00 MiB"
    assert energy(0.0791) == "79.1 mJ"
    assert energy(12.34) == "12.3 J"
    assert percent(98.04) == "98.0 %"


@pytest.mark.parametrize(
    ("value", "half", "shown", "ends"),
    [
        (46957.0, 610.0, "46,960", "46,350 to 47,570"),
        (8770.0, 5200.0, "8,800", "3,600 to 14,000"),
        (2926.4, 7.6, "2,926.4", "2,918.8 to 2,934.0"),
        (42.713, 0.34, "42.71", "42.37 to 43.05"),
        (0.012347, 0.00011, "0.01235", "0.01224 to 0.01246"),
        (99.96, 14.0, "100", "86 to 114"),
        (312.0, 1e-9, "312.00", None),
        (7.0, 90.0, "7.0", "-83.0 to 97.0"),
    ],
)
def test_a_rate_has_the_digits_that_its_interval_bears(
    value: float, half: float, shown: str, ends: str | None
) -> None:
    interval = Interval(low=value - half, high=value + half)
    assert rate_text(value, interval) == shown
    assert ends_text(value, interval) == ends


def test_a_rate_without_an_interval_has_four_digits() -> None:
    assert rate_text(312.0, None) == rate_text(312.0, Interval(low=312.0, high=312.0)) == "312.0"
    assert rate_text(46957.0, None) == "46,957"
    assert rate_text(1e300, Interval(low=1e299, high=1e301)) == "1.000e+300"
    assert rate_text(0.0, Interval(low=0.0, high=1.0)) == "0"
    assert ends_text(312.0, None) is None
    assert ends_text(312.0, Interval(low=312.0, high=312.0)) is None  # no interval without width


def test_plus_minus_is_half_the_width_on_the_log_scale() -> None:
    assert plus_minus(Interval(low=100 / 1.02, high=100 * 1.02)) == "± 2.0 %"
    assert plus_minus(Interval(low=100, high=100)) == "± 0 %"
    assert plus_minus(Interval(low=1e-3, high=1e9)) == "± over 999 %"
    assert plus_minus(Interval(low=0, high=1)) == "± ? %"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\nlines\tand\r\nmore ", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("abc\u202edcba\u2066x", "abcdcbax"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("line\u2028separator", "line separator"),
        ("\x9b31m csi", "31m csi"),
        ("no\ufffe character\U0001ffff", "no character"),
        ("::error::x", ":: error::x"),
        ("x ##\u200b[add-path]y ##vso[task]", "x ## [add-path]y ## vso[task]"),
        ("std::error_code at::native::conv ## [x]", "std::error_code at::native::conv ## [x]"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_clean_shortens() -> None:
    assert clean("x" * 1000, limit=10) == "x" * 9 + "…"
    assert len(clean("\x1b" * 10_000_000 + "x", limit=10)) <= 10


@given(st.text())
def test_cleaned_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in clean(text))


CONTROLS = "\x00\x1b[31m\x7f\x9b31m\u202eab\u2066\u200b\ufeff\u2028\U000e0001é日😀"


@given(st.text())
@example(CONTROLS)
def test_printed_json_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = indented_json({text: [text]})
    found = {unicodedata.category(char) for char in shown.replace("\n", "")}
    assert found.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
    assert json.loads(shown) == {text: [text]}


def test_printed_json_keeps_letters() -> None:
    assert indented_json("é日😀") == '"é日😀"\n'
    assert indented_json("\x9b\u202e\U000e0001") == '"\\u009b\\u202e\\udb40\\udc01"\n'


def test_markdown_is_shown_as_it_stands() -> None:
    assert escape_markdown("a|b<i>`c`*d*_e_[f](g)\n# h") == r"a\|b\<i\>\`c\`\*d\*\_e\_\[f\](g) \# h"
    assert escape_markdown("see https://evil.example or www.evil.example") == (
        r"see https:\//evil.example or www\.evil.example"
    )
    assert escape_markdown("&#x202e; $x$ ~~y~~") == r"\&\#x202e; \$x\$ \~\~y\~\~"


def test_label_names_only_what_is_not_at_its_default() -> None:
    assert case_label(make_case()) == "reference-cnn b32 fp32"
    case = make_case(
        precision="bf16",
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        compile=True,
        memory_format="channels_last",
        strategy="zero2",
        world_size=4,
        data="host",
    )
    assert case_label(case) == "reference-cnn b32 bf16 acc2 ckpt compile channels_last zero2 x4 host"


def test_labels_tell_cases_apart() -> None:
    cases = [make_case(), make_case(seed=1), make_case(precision="bf16")]
    labels = case_labels(cases)
    assert len(set(labels.values())) == 3
    assert labels[cases[1].case_id] == f"reference-cnn b32 fp32 #{cases[1].case_id}"
    assert labels[cases[2].case_id] == "reference-cnn b32 bf16"
