"""The folder that a run writes to: what may be replaced there, and where its workers leave their files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchbox.errors import BadInputError, WouldOverwriteError

JOURNAL_NAME = "journal.jsonl"
REPORT_NAME = "report.json"
SUMMARY_NAME = "report.md"
TRACES_NAME = "traces"
_REPORT_NAMES = (REPORT_NAME, SUMMARY_NAME)
_WORK_PREFIX = ".benchbox-work-"


def refuse_to_overwrite(folder: Path, *, resume: bool, force: bool, can_resume: bool = True) -> None:
    """Raise where ``folder`` holds what a run would replace and nobody said that it may.

    ``can_resume``: whether to tell the user of ``--resume``.

    Raises:
        BadInputError: it is a file.
        WouldOverwriteError: a journal or report is there; with ``resume``, a report but no journal.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"--out: {folder}: is a file, not a folder")
    if force or (resume and (folder / JOURNAL_NAME).exists()):
        return
    for name in (JOURNAL_NAME, *_REPORT_NAMES):
        path = folder / name
        if path.exists() and resume:
            raise WouldOverwriteError(
                f"{path}: exists, but no journal beside it to go on with; start anew with --force, "
                "or choose another --out"
            )
        if path.exists():
            go_on = "go on with --resume, " if can_resume else ""
            raise WouldOverwriteError(
                f"{path}: exists; {go_on}start anew with --force, or choose another --out"
            )


def remove_reports(folder: Path) -> None:
    """Remove the reports of the run before, so that a killed run leaves none beside a journal of its own.

    So are its traces; whatever else lies in their folder stays.
    """
    for name in _REPORT_NAMES:
        (folder / name).unlink(missing_ok=True)
    for trace in (folder / TRACES_NAME).glob("*.json.gz"):
        trace.unlink()


def make_work_dir(folder: Path) -> Path:
    """A new empty folder for the workers' files; removes those that killed runs have left in ``folder``.

    The journal must be locked, for a run that is alive would lose its own.
    """
    for leftover in folder.glob(f"{_WORK_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=folder))
