"""The other side of ``--versus``: another interpreter, or another checkout of the user's own model."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import benchbox
from benchbox.errors import BadInputError
from benchbox.plan.suite import BUILT_IN_MODELS
from benchbox.schema import Case


class Surroundings(NamedTuple):
    """Where the workers of one side run, and where they find a model."""

    python: str
    variables: dict[str, str]
    import_dirs: tuple[str, ...]


@contextlib.contextmanager
def other_side(other: Path, cases: Sequence[Case], suite_dir: Path) -> Generator[Surroundings, None, None]:
    """What ``other`` means: an executable file is an interpreter, a folder a checkout.

    Both sides run this very benchbox. The other interpreter finds it through a folder that holds nothing
    else, so that it takes torch and all the rest from its own environment; it needs Python 3.11 or newer,
    torch and msgspec.

    Raises:
        BadInputError: it is neither, or a checkout would not be what is imported.
    """
    if other.is_dir():
        _check_checkout(other, cases)
        folders = [other]
        with contextlib.suppress(ValueError):  # the suite lies elsewhere
            folders.insert(0, other / suite_dir.absolute().relative_to(Path.cwd()))
        yield Surroundings(sys.executable, {}, tuple(str(f.absolute()) for f in folders if f.is_dir()))
    elif other.is_file() and os.access(other, os.X_OK):
        with tempfile.TemporaryDirectory(prefix="benchbox-versus-") as folder:
            Path(folder, "benchbox").symlink_to(Path(benchbox.__file__).parent, target_is_directory=True)
            # Not resolved: a virtual environment's python is a link, and is found by its own name.
            python = str(other.absolute())
            yield Surroundings(python, {"PYTHONPATH": folder}, (str(suite_dir), str(Path.cwd())))
    else:
        raise BadInputError(
            f"--versus: {other}: neither a Python interpreter nor a folder with another checkout"
        )


def _check_checkout(other: Path, cases: Sequence[Case]) -> None:
    """Refuse what would compare a model with itself."""
    models = {case.model for case in cases} - set(BUILT_IN_MODELS)
    packages = {model.partition(":")[0].partition(".")[0] for model in models}
    if not packages:
        raise BadInputError(
            f"--versus: {other}: a folder, but the suite has no model of yours that it could differ in; "
            "name another interpreter"
        )
    for package in sorted(packages):
        # Workers search these folders last, so an installed package would be taken on both sides.
        code = "import importlib.util as u, sys; s = u.find_spec(sys.argv[1]); print(s.origin if s else '')"
        found = subprocess.run(
            [sys.executable, "-P", "-c", code, package], capture_output=True, text=True, check=False
        ).stdout.strip()
        if found:
            raise BadInputError(
                f"--versus: {other}: `{package}` is installed ({found}), so both sides would import it; "
                "uninstall it, or name the interpreter of another environment"
            )
