"""Reports as files: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from benchbox.errors import BadInputError
from benchbox.plan.allowed import allowed_values
from benchbox.plan.tomlfile import describe_validation_error
from benchbox.report.consistency import find_inconsistency, find_inconsistent_times
from benchbox.report.text import clean
from benchbox.schema import SCHEMA_VERSION, CaseResult, Report
from benchbox.schema.history import ReportTimes

MAX_REPORT_BYTES = 128 << 20

Read = TypeVar("Read", Report, ReportTimes)
Document = TypeVar("Document")

_AT = re.compile(r" - at `(\$[^`]*)`$")
# A column of numbers stands on one line. Strings hold no bare line feed, so nothing inside one can match.
_NUMBERS = re.compile(rb"\[\n\s+(?:-?[0-9][-+.eE0-9]*|null)(?:,\n\s+(?:-?[0-9][-+.eE0-9]*|null))*\n\s+\]")


class _Versioned(msgspec.Struct):
    schema_version: int


class _DocumentVersion(msgspec.Struct):
    schema_version: int = 1


class _Fields(msgspec.Struct):
    """The fields by which the JSON of other commands is known; empty where they are missing."""

    comparisons: msgspec.Raw = msgspec.Raw()
    num_reports: msgspec.Raw = msgspec.Raw()
    configurations: msgspec.Raw = msgspec.Raw()


def write_report(report: Report, path: Path) -> None:
    """Write ``report`` to ``path``: to a temporary file beside it, flushed to disk, then renamed.

    What stood at ``path`` is replaced; whether it may be is for the caller to ask.

    Raises:
        BadInputError: ``path`` is a device or a pipe, the folder is missing or cannot be written to, the
            disk is full, or the report is larger than :func:`read_report` takes.
    """
    _write(path, _up_to_the_limit(_pieces(report), path))


def write_text(text: str, path: Path) -> None:
    """Write ``text`` to ``path`` in the same way.

    Raises:
        BadInputError: as for :func:`write_report`.
    """
    write_bytes(text.encode(), path)


def write_bytes(content: bytes, path: Path) -> None:
    """Write ``content`` to ``path`` in the same way.

    Raises:
        BadInputError: as for :func:`write_report`.
    """
    _write(path, [content])


def _pieces(report: Report) -> Iterator[bytes]:
    """The report as indented JSON, a case at a time: the copies of a whole one would be the controller's
    peak of memory."""
    # Strings hold no bare line feed, so at this depth there is one such line only.
    before, cases, after = _indented(replace(report, cases=())).partition(b'\n "cases": []')
    yield before + cases.removesuffix(b"]")
    for place, result in enumerate(report.cases):
        yield b",\n  " if place else b"\n  "
        yield _indented(result).replace(b"\n", b"\n  ")
    yield b"\n ]" + after + b"\n"


def _indented(part: Report | CaseResult) -> bytes:
    text = msgspec.json.format(msgspec.json.encode(part), indent=1)
    return _NUMBERS.sub(lambda match: re.sub(rb"\n\s+", b"", match[0]), text)


def _up_to_the_limit(pieces: Iterable[bytes], path: Path) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_REPORT_BYTES:
            raise _bad(
                path,
                f"would be larger than {MAX_REPORT_BYTES >> 20} MiB, and no report is read beyond that; "
                "lower `measure.max_measured_steps`, `measure.telemetry_hz` or `measure.repetitions`",
            )
        yield piece


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    # Renaming onto /dev/stdout or /dev/null would put a file in its place, for every program on the machine.
    special = path.exists() and not (path.is_file() or path.is_dir())
    if special or path.absolute().parent == Path("/dev"):
        raise _bad(path, "cannot be written: not a regular file, and is left as it is")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def without_collector() -> Generator[None, None, None]:
    """A large report makes millions of objects and no cycle; looking for cycles would take most of the
    time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_report(path: Path) -> Report:
    """Read a report that anybody may have written.

    Raises:
        BadInputError: missing, no regular file, larger than 128 MiB, not JSON, truncated, of a newer schema,
            mistyped, or its parts do not fit each other. One line that names file and key, with nothing in it
            that a terminal would obey.
    """
    return _read(path, Report, find_inconsistency)


def read_times(path: Path) -> ReportTimes:
    """Read of a report what its course needs, several times as quickly.

    Raises:
        BadInputError: as for :func:`read_report`, as far as what is read goes.
    """
    return _read(path, ReportTimes, find_inconsistent_times)


def _read(path: Path, kind: type[Read], find_problem: Callable[[Read], str | None]) -> Read:
    raw = read_raw(path)
    with without_collector():
        report = _decode(raw, path, kind)
        problem = find_problem(report)
    if problem is not None:
        raise _bad(path, problem)
    return report


def read_raw(path: Path) -> bytes:
    """The bytes of a file that anybody may have written.

    Raises:
        BadInputError: missing, no regular file, or larger than 128 MiB.
    """
    try:
        # Before opening: a pipe would wait for a writer, and a device may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad(path, "not a regular file")
        with path.open("rb") as file:
            raw = file.read(MAX_REPORT_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _bad(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_REPORT_BYTES:
        raise _bad(path, f"larger than {MAX_REPORT_BYTES >> 20} MiB, which no report needs")
    return raw


def written_by(raw: bytes) -> Literal["compare", "history", "plan"] | None:
    """The command whose ``--format json`` this seems to be; ``None`` if it is taken for a report."""
    try:
        fields = msgspec.json.decode(raw, type=_Fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # reading it as a report says what is wrong
    if bytes(fields.comparisons):
        return "compare"
    if bytes(fields.num_reports):
        return "history"
    return "plan" if bytes(fields.configurations) else None


def read_document(path: Path, kind: type[Document], what: str, command: str) -> Document:
    """The JSON of another command, which ``what`` names; without ``schema_version`` it is of version 1.

    Raises:
        BadInputError: it cannot be read, is larger than 128 MiB, of a newer version, or something else.
    """
    raw = read_raw(path)
    try:
        # A newer one may differ anywhere, so its version comes first.
        _check_version(msgspec.json.decode(raw, type=_DocumentVersion).schema_version, path)
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _bad(path, f"not a {what}; benchbox {command} --format json writes one") from None


def json_schema() -> str:
    """The JSON Schema (2020-12) of ``report.json``, as JSON."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "benchbox report",
        "version": SCHEMA_VERSION,
        **msgspec.json.schema(Report),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _decode(raw: bytes, path: Path, kind: type[Read]) -> Read:
    try:
        try:
            report = msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError:
            command = written_by(raw)
            if command is not None:
                what = f"the JSON of `benchbox {command}`, not a report"
                raise _bad(path, f"{what}; `benchbox report --format html` makes a page of it") from None
            # A newer report may differ anywhere, so its version comes before whatever else is wrong with it.
            _check_version(msgspec.json.decode(raw, type=_Versioned).schema_version, path)
            raise
        _check_version(report.schema_version, path)
        return report
    except msgspec.ValidationError as error:
        raise _bad(path, _describe(error)) from None
    except msgspec.DecodeError as error:
        raise _bad(path, f"not valid JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise _bad(path, f"not UTF-8: {error.reason}") from None
    except RecursionError:
        raise _bad(path, "not a report: nested too deeply") from None


def _check_version(version: int, path: Path) -> None:
    if version > SCHEMA_VERSION:
        raise _bad(
            path,
            f"written by a newer benchbox (schema {version}; this one reads up to {SCHEMA_VERSION})",
        )
    if version < 1:
        raise _bad(path, f"`schema_version`: {version}; the first version is 1")


def _describe(error: msgspec.ValidationError) -> str:
    text = describe_validation_error(error)
    at = _AT.search(str(error))
    allowed = allowed_values(Report, at[1]) if at else ()
    return f"{text}; allowed: {', '.join(allowed)}" if allowed else text


def _bad(path: Path, what: str) -> BadInputError:
    return BadInputError(f"{clean(str(path))}: {clean(what)}")
