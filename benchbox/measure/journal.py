"""Each finished attempt is one flushed line, so that a killed run loses nothing that was finished."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

from benchbox.errors import BadInputError, ResumeError
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    Ceilings,
    Environment,
    JournalHeader,
    JournalLine,
    Suite,
    TelemetryCost,
)


class Journal:
    """An open ``journal.jsonl``, locked against a second run in the same folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ResumeError(f"{path}: another benchbox run is writing there") from None

    def start_anew(self, header: JournalHeader) -> None:
        """Drop all lines and write ``header`` as the first."""
        self._file.truncate(0)
        self.append(JournalLine(header=header))

    def append(self, line: JournalLine) -> None:
        """Write one line and wait until it is on the disk."""
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file and drop the lock."""
        self._file.close()


class Finished(msgspec.Struct):
    """What a journal holds."""

    header: JournalHeader | None = None
    case_ids: frozenset[str] = frozenset()
    attempts: list[AttemptResult] = msgspec.field(default_factory=list)
    telemetry_cost: TelemetryCost | None = None
    ceilings: Ceilings | None = None


def read_journal(path: Path) -> Finished:
    """Read what is finished. A last line that was cut off in writing is cut from the file too.

    Raises:
        BadInputError: a whole line cannot be read, or does not fit those before it.
    """
    finished = Finished()
    raw = path.read_bytes()
    whole, _, cut_off = raw.rpartition(b"\n")
    if cut_off:
        os.truncate(path, len(raw) - len(cut_off))
    for number, text in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            line = msgspec.json.decode(text, type=JournalLine)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadInputError(f"{path}: line {number}: {error}; start anew with --force") from None
        problem = _take(line, finished)
        if problem is not None:
            raise BadInputError(f"{path}: line {number}: {problem}; start anew with --force")
    return finished


def _take(line: JournalLine, finished: Finished) -> str | None:
    """Add ``line`` to what is finished; what is wrong with it where it does not fit."""
    if (line.header is None) == (finished.header is None):
        return "the header belongs at the start, once"
    if line.header is not None:
        finished.header = line.header
        finished.case_ids = frozenset(case.case_id for case in line.header.suite.cases)
    elif line.attempt is not None:
        attempt = line.attempt
        if attempt.case_id not in finished.case_ids:
            return f"`attempt.case_id`: {attempt.case_id!r} is not in the suite"
        if attempt.outcome == "ok" and not (attempt.ranks and attempt.ranks[0].step_time_ns):
            return "`attempt.ranks`: `ok`, but no step was measured"
        finished.attempts.append(attempt)
    elif line.telemetry_cost is not None:
        finished.telemetry_cost = line.telemetry_cost
    elif line.ceilings is not None:
        finished.ceilings = line.ceilings
    return None


def check_same_suite(header: JournalHeader, suite: Suite, path: Path) -> None:
    """Refuse to go on with a journal of another suite, naming what differs.

    Raises:
        ResumeError: with up to three differing fields.
    """
    if header.schema_version != SCHEMA_VERSION:
        raise ResumeError(f"{path}: written with schema {header.schema_version}, not {SCHEMA_VERSION}")
    _refuse_differences(_differences("suite", _suite_by_id(header.suite), _suite_by_id(suite)), path)


def check_same_environment(header: JournalHeader, environment: Environment, path: Path) -> None:
    """Refuse to go on with a journal of another environment, naming what differs.

    Raises:
        ResumeError: with up to three differing fields.
    """
    old, new = msgspec.to_builtins(header.environment), msgspec.to_builtins(environment)
    _refuse_differences(_differences("environment", old, new), path)


def _refuse_differences(differences: list[str], path: Path) -> None:
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ResumeError(
            f"{path}: cannot resume, {'; '.join(differences[:3])}{more}. "
            "Choose another --out, or start anew with --force"
        )


def _suite_by_id(suite: Suite) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(suite)
    plain["cases"] = {case["case_id"]: case for case in plain["cases"]}
    return plain


def _differences(key: str, old: Any, new: Any) -> list[str]:
    """``key was old and is now new`` for every leaf that differs; a key that came or went, by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = [d for k in old if k in new for d in _differences(f"{key}.{k}", old[k], new[k])]
        gone = [f"`{key}.{k}` is gone" for k in old if k not in new]
        return both + gone + [f"`{key}.{k}` is new" for k in new if k not in old]
    if isinstance(old, tuple) and isinstance(new, tuple):
        pairs = enumerate(zip(old, new, strict=False))
        both = [d for i, (a, b) in pairs for d in _differences(f"{key}[{i}]", a, b)]
        gone = [f"`{key}[{i}]` is gone" for i in range(len(new), len(old))]
        return both + gone + [f"`{key}[{i}]` is new" for i in range(len(old), len(new))]
    return [] if old == new else [f"`{key}` was {old!r} and is now {new!r}"]
