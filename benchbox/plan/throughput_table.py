"""Read a table of measured throughputs: CSV with one row a measurement, columns as in ``docs/grade.md``."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchbox.plan.tomlfile import bad_input, clipped, printable
from benchbox.schema import LeftOut, ThroughputRow

MAX_TABLE_BYTES = 64 << 20
MAX_ROWS = 200_000
MAX_TEXT_CHARACTERS = 200

REQUIRED = ("model", "gpu", "n_gpus", "precision", "batch_per_gpu", "throughput_samples_per_s", "software")
# What else must be equal for two rows to be comparable, where the table says it.
WORKLOAD = ("framework", "image_size_or_seq", "memory_layout", "data_pipeline", "unit")
# Words in `quality_flag` of rows that measured something else than the device as it is sold.
BAD_FLAGS = ("suspect", "derived", "power-capped", "inferred", "noisy", "semantics")
# Units of which one training sample has many.
_FINE_UNITS = ("tok", "frame", "mel", "audio", "items")
_MAX_RATE = 1e15


class ThroughputTable(NamedTuple):
    """The rows that can be read, and how many cannot."""

    rows: tuple[ThroughputRow, ...]
    left_out: tuple[LeftOut, ...]


def read_throughput_table(path: Path) -> ThroughputTable:
    """Read ``path``.

    Raises:
        BadInputError: unreadable, larger than 64 MiB, not UTF-8, no CSV, a column is missing or there twice,
            or no row is usable. A single bad row is left out and counted.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[ThroughputRow] = []
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    try:
        # People leave spaces about a name and write capitals.
        reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
        _check_header(reader.fieldnames, path)
        for number, cells in enumerate(reader, start=1):
            if number > MAX_ROWS:
                raise bad_input(path, f"more than {MAX_ROWS} rows")
            row = _row(cells)
            if isinstance(row, ThroughputRow):
                rows.append(row)
            else:
                reasons[row] += 1
                examples.setdefault(row, f"line {reader.line_num}")
    except csv.Error as error:
        raise bad_input(path, f"line {reader.line_num}: not valid CSV: {error}") from None
    if not rows:
        reason = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise bad_input(path, f"no usable row{reason}")
    left_out = [LeftOut(reason=what, num=num, example=examples[what]) for what, num in reasons.most_common()]
    return ThroughputTable(tuple(rows), tuple(left_out))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TABLE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise bad_input(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_TABLE_BYTES:
        raise bad_input(path, f"larger than {MAX_TABLE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_input(path, f"not UTF-8 at byte {error.start}") from None


def _check_header(names: Sequence[str], path: Path) -> None:
    if not names:
        raise bad_input(path, f"empty; the first line names the columns: {', '.join(REQUIRED)}")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise bad_input(path, "the columns are not separated by commas")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise bad_input(path, f"column `{missing[0]}` is missing; needed: {', '.join(REQUIRED)}")
    doubled = [name for name, times in Counter(names).items() if times > 1 and name in (*REQUIRED, *WORKLOAD)]
    if doubled:
        raise bad_input(path, f"column `{doubled[0]}` is there twice")


def _row(cells: Mapping[str | None, str | list[str] | None]) -> ThroughputRow | str:
    """The row, or in words why it is left out."""
    if None in cells or any(value is None for value in cells.values()):
        return "another number of cells than the header has"
    text = {str(name): str(value).strip() for name, value in cells.items()}
    count, rate, batch = (
        _positive(text[name]) for name in ("n_gpus", "throughput_samples_per_s", "batch_per_gpu")
    )
    flag = text.get("quality_flag", "").casefold()
    bad = next((word for word in BAD_FLAGS if word in flag), None)
    wrong = {
        f"`quality_flag` says {bad}": bad is not None,
        "`unit` does not say what is counted": text.get("unit", "").casefold().startswith("see "),
        "`model` or `gpu` is empty": not text["model"] or not text["gpu"],
        "`n_gpus` is no whole number of at least 1": count is None or count != int(count) or count > 1e6,
        "`throughput_samples_per_s` is no positive number": rate is None,
        "`batch_per_gpu` is neither empty nor a positive number": bool(text["batch_per_gpu"])
        and batch is None,
    }
    reason = next((what for what, is_so in wrong.items() if is_so), None)
    if reason is not None or count is None or rate is None:
        return reason or ""
    unit = text.get("unit", "").casefold()
    return ThroughputRow(
        model=_short(text["model"]),
        gpu=_short(text["gpu"]),
        num_devices=int(count),
        precision=_short(text["precision"]),
        batch_per_device=batch,
        samples_per_second=rate,
        software=_short(text["software"]),
        workload=tuple(_short(text[name]) for name in WORKLOAD if name in text),
        source=_short(text.get("source") or text.get("source_repo", "")),
        rate_counts_samples=not any(word in unit for word in _FINE_UNITS),
    )


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 1 / _MAX_RATE < value < _MAX_RATE else None


def _short(text: str) -> str:
    return clipped(printable(text), MAX_TEXT_CHARACTERS)
