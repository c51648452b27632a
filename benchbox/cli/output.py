"""Where a command's result goes that may be a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchbox.errors import BadInputError


def write_result(content: bytes, out: Path, sources: Sequence[Path]) -> None:
    """Write ``content`` to ``out``, whole or not at all; what a former call wrote there is replaced.

    Raises:
        BadInputError: ``out`` is one of ``sources``, or cannot be written to.
    """
    from benchbox.report.files import write_bytes

    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise BadInputError(f"--out: {out}: is one of the reports; choose another name")
    if out.is_dir():
        raise BadInputError(f"--out: {out}: is a folder; name a file in it")
    write_bytes(content, out)
    print(f"written: {out}")
