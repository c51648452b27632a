"""The real NVML binding on a machine without a GPU: a small C library stands in for the driver's.

``pynvml`` loads ``libnvidia-ml.so.1`` by name, so a child process with :meth:`StandIn.environment` finds this
one. The fixtures ``nvml_stand_in`` and ``old_nvml_stand_in`` are in ``tests/conftest.py``; the settings are
described in ``nvml_stand_in.c``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("nvml_stand_in.c")
LIBRARY = "libnvidia-ml.so.1"


def compile_library(folder: Path, *flags: str) -> Path:
    """Build the library in ``folder``, and return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", *flags, "-o", str(folder / LIBRARY)]
    subprocess.run([*command, str(SOURCE)], check=True)
    return folder


class StandIn:
    """A driver whose answers a test sets, also while a child process asks."""

    def __init__(self, library_dir: Path, control: Path) -> None:
        self.library_dir = library_dir
        self.control = control
        self.set("device_count 1")

    def set(self, *lines: str) -> None:
        """Replace all settings, at once for a process that is reading them."""
        new = self.control.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self.control)

    def environment(self) -> dict[str, str]:
        """Variables of a child process that is to see this driver."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.library_dir),
            "NVML_STAND_IN": str(self.control),
        }

    def run(self, script: str, timeout_s: float = 300, **variables: str) -> Any:
        """Run Python code in a child process; returns what it prints, read as JSON.

        The code finds the path of the settings in ``sys.argv[1]`` and a function ``set_driver(*lines)``.
        """
        done = subprocess.run(
            [sys.executable, "-c", _PRELUDE + script, str(self.control)],
            env={**self.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


_PRELUDE = """
import json, os, sys, time
from pathlib import Path

def set_driver(*lines):
    new = Path(sys.argv[1] + ".child")
    new.write_text("".join(line + chr(10) for line in lines))
    new.replace(sys.argv[1])

"""
