"""Where a command's result goes that may be a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from benchbox.report.plots.canvas import FileFormat

_PICTURES: dict[str, FileFormat] = {".svg": "svg", ".png": "png", ".pdf": "pdf"}


def check_out(out: Path, sources: Sequence[Path]) -> None:
    """Before the work: whether ``out`` may be written to. What a former call wrote there is replaced.

    Raises:
        BadInputError: ``out`` is one of ``sources``, or a folder, or would lie in a folder that is not there.
    """
    if out.is_dir():
        raise BadInputError(f"--out: {out}: is a folder; name a file in it")
    if not out.parent.is_dir():
        raise BadInputError(f"--out: {out}: there is no folder {out.parent}")
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise BadInputError(f"--out: {out}: is one of the reports; choose another name")


def picture_format(option: str, out: Path) -> FileFormat:
    """The format that the name of the file after ``option`` asks for.

    Raises:
        BadInputError: none of those that there are.
    """
    found = _PICTURES.get(out.suffix.lower())
    if found is None:
        raise BadInputError(f"{option}: {out}: the name must end in .svg, .png or .pdf")
    return found


def write_result(content: bytes, out: Path) -> None:
    """Write ``content`` to ``out``, whole or not at all, and say so.

    Raises:
        BadInputError: it cannot be written.
    """
    from benchbox.report.files import write_bytes

    write_bytes(content, out)
    print(f"written: {out}")
