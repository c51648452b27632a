"""Text that people read: numbers with sensible digits and units, and strings that cannot do harm."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from benchbox.schema import Case, Interval

UNKNOWN = "–"

_REMOVED = frozenset({"Cc", "Cf", "Cs"})
_LINE_BREAKS = frozenset({"Zl", "Zp"})
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#&$])")
# GitHub's runner obeys "::error ...::" where a line begins, which in a table may be anywhere, and "##[error]"
# at any place of what a step prints; Azure's obeys "##vso[".
_COMMAND = re.compile(
    r"(?<=::)(?=(?:add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|internal-set-repo-path|notice"
    r"|remove-matcher|save-state|set-env|set-output|stop-commands|warning)(?![\w-]))"
    r"|(?<=##)(?=(?:vso)?\[)",
    re.IGNORECASE,
)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_PERHAPS_CONTROL = re.compile("[\x7f-\U0010ffff]")
_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)


def clean(text: str, limit: int = 500) -> str:
    """``text`` on one line: no control characters, no escape sequences' start, no direction overrides, no
    command to a CI runner.

    What is longer than ``limit`` ends in an ellipsis.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():  # nearly all texts; the loop is slow
        return _without_commands(" ".join(text.split()))
    kept = []
    # Nothing beyond this can reach the result, and a hostile string may be as long as a report may be.
    for char in text[: 8 * limit]:
        category = unicodedata.category(char)
        if char.isspace() or category in _LINE_BREAKS:
            kept.append(" ")
        elif (
            category not in _REMOVED and ord(char) & 0xFFFE != 0xFFFE
        ):  # U+FFFE and its kin are no characters
            kept.append(char)
    line = _without_commands(" ".join("".join(kept).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _without_commands(line: str) -> str:
    return _COMMAND.sub(" ", line) if "::" in line or "##" in line else line


def indented_json(document: object, indent: int = 1) -> str:
    """``document`` as JSON to be printed: texts as they are, but spelled so that neither a terminal nor a CI
    runner obeys them."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent).decode()
    if not text.isascii() or "\x7f" in text:  # JSON itself asks for those below a space only
        text = _PERHAPS_CONTROL.sub(_spelled, text)
    return text.replace("##", "#\\u0023") + "\n"  # a hash stands in strings only, and in no escape


def _spelled(found: re.Match[str]) -> str:
    """A control or format character as JSON's ``\\u009b``, beyond the first plane as two."""
    char = found[0]
    if unicodedata.category(char) not in _REMOVED | _LINE_BREAKS:
        return char
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def escape_markdown(text: str) -> str:
    """``text``, cleaned, so that Markdown shows it as it stands: no markup, HTML, link or table cell."""
    return _LINK.sub(r"\\", _MARKDOWN.sub(r"\\\1", clean(text)))


def csv_cell(value: object) -> str:
    """``value`` for a cell that no spreadsheet takes for a formula; unknown is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return csv_cell("x".join(map(str, value)))
    if isinstance(value, str):
        # Cleaning comes second: a tab in front would hide the sign behind it.
        text = clean(value)
        return f"'{text}" if value.startswith(_FORMULA_STARTS) or text.startswith(_FORMULA_STARTS) else text
    return str(value)


def case_label(case: Case) -> str:
    """A short name for people: model, batch, precision, and the axes that are not at their default."""
    parts = [case.model, f"b{case.per_device_batch_size}", case.precision]
    if case.gradient_accumulation_steps > 1:
        parts.append(f"acc{case.gradient_accumulation_steps}")
    if case.gradient_checkpointing:
        parts.append("ckpt")
    if case.compile:
        parts.append("compile")
    if case.memory_format != "contiguous":
        parts.append(case.memory_format)
    if case.strategy != "single":
        parts.append(case.strategy)
    if case.world_size > 1:
        parts.append(f"x{case.world_size}")
    if case.data != "device":
        parts.append(case.data)
    return clean(" ".join(parts), limit=120)


def case_labels(cases: Sequence[Case]) -> dict[str, str]:
    """A label for each case id; cases that would share one get their id behind it."""
    labels = [case_label(case) for case in cases]
    counts = Counter(labels)
    return {
        case.case_id: label if counts[label] == 1 else f"{label} #{clean(case.case_id, limit=16)}"
        for case, label in zip(cases, labels, strict=True)
    }


def significant(value: float, digits: int = 3) -> str:
    """``value`` rounded to ``digits`` significant digits, with thousands separated, never truncated."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent >= 9 or exponent < -4:
        return f"{rounded:.{digits - 1}e}"
    return f"{value:,.0f}" if exponent >= digits else f"{rounded:,.{digits - 1 - exponent}f}"


def rate_text(value: float, interval: Interval | None) -> str:
    """``value`` with as many digits as its interval bears, four where there is none: ``46,960`` where half of
    it is 610, ``8,800`` where it is 5,200."""
    place = _last_place(value, interval)
    return significant(value, 4) if place is None else _rounded(value, place)


def ends_text(value: float, interval: Interval | None) -> str | None:
    """The ends of the interval of ``value`` with the same digits; ``None`` where that shows no width."""
    if interval is None:
        return None
    place = _last_place(value, interval)
    low, high = (
        significant(end, 4) if place is None else _rounded(end, place)
        for end in (interval.low, interval.high)
    )
    return None if low == high else f"{low} to {high}"


def _last_place(value: float, interval: Interval | None) -> int | None:
    """The power of ten of the second digit of half of the interval, from the second to the fifth digit of
    ``value``; ``None`` where there is no interval, or a number that is written with an exponent."""
    half = 0.0 if interval is None else (interval.high - interval.low) / 2
    if not (math.isfinite(value) and value > 0 and math.isfinite(half) and half > 0):
        return None
    first = math.floor(math.log10(value))
    if first >= 9 or first < -4:
        return None
    return min(first - 1, max(first - 4, math.floor(math.log10(half)) - 1))


def _rounded(value: float, place: int) -> str:
    return f"{round(value, -place):,.{max(0, -place)}f}"


def duration(nanoseconds: float) -> str:
    """``45.2 ms``."""
    return _scaled(nanoseconds, (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)))


def memory(num_bytes: float) -> str:
    """``4.12 GiB``."""
    return _scaled(num_bytes, (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)))


def energy(joules: float) -> str:
    """``82.3 mJ``."""
    return _scaled(joules, (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)))


def percent(value_pct: float) -> str:
    """``98.2 %``."""
    return f"{significant(value_pct)} %"


def share(value: float | None) -> str | None:
    """A share of one: ``98.2 %``; below zero with a minus sign that is seen. ``None`` stays unknown."""
    return None if value is None else percent(100 * value).replace("-", "−")


def if_known(value: float | None, show: Callable[[float], str]) -> str | None:
    """``value`` as ``show`` writes it; ``None`` stays unknown."""
    return None if value is None else show(value)


def half_width_pct(interval: Interval) -> float | None:
    """Half of an interval's width on the log scale, as a share of its middle; ``None`` where it has none."""
    if interval.low <= 0 or interval.high < interval.low:
        return None
    return 100 * (math.sqrt(interval.high / interval.low) - 1)


def plus_minus(interval: Interval) -> str:
    """The same as text: ``± 0.42 %``."""
    half_pct = half_width_pct(interval)
    if half_pct is None:
        return "± ? %"
    return f"± {significant(half_pct, 2)} %" if half_pct < 1000 else "± over 999 %"


def _scaled(value: float, units: Sequence[tuple[str, float]]) -> str:
    # 0.9995 of a unit would be shown as 1.00 of it, so it already belongs to it.
    unit, factor = next(((u, f) for u, f in units if abs(value) >= 0.9995 * f), units[-1])
    return f"{significant(value / factor)} {unit}"
