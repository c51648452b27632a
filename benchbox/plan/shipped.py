"""Where the suites and hardware profiles that come with benchbox lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import benchbox
from benchbox.errors import BenchboxError


def shipped_dir(what: Literal["suites", "hw_profiles"]) -> Path:
    """The folder of shipped ``what``: inside an installed package, at the root of a source checkout.

    Raises:
        BenchboxError: neither is there, so the installation is incomplete.
    """
    package = Path(benchbox.__file__).parent
    for folder in (package / "_shipped" / what, package.parent / what):
        if folder.is_dir():
            return folder
    raise BenchboxError(f"{package}: the shipped `{what}` are missing; install benchbox again")
