"""The live display on a terminal that is resized, and read slowly, while a suite runs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

from rich.cells import cell_len

from tests.runs import environment, write_suite

ROOT = Path(__file__).parents[2]


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))


def test_it_follows_the_terminals_width_and_waits_for_a_slow_one(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, max_seconds=1.5)
    controlling, terminal = pty.openpty()
    resize(terminal, 110)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchbox.cli", "run", suite, "--out", "out"],
        cwd=tmp_path,
        env=environment(TERM="xterm-256color", PYTHONPATH=str(ROOT)),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    before = after = b""
    try:
        while received := os.read(controlling, 64):  # a few bytes at a time, with pauses
            time.sleep(0.002)
            if b"steps/s" not in before:
                before += received
                if b"steps/s" in before:
                    while select.select([controlling], [], [], 0.1)[0]:  # the frame that is on its way
                        before += os.read(controlling, 4096)
                    resize(controlling, 44)
            else:
                after += received
    except OSError:  # how Linux tells that the other end is closed
        pass
    finally:
        os.close(controlling)
    assert process.wait(60) == 0
    live = after.decode().partition("\x1b[?25h")[0]
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", live)
    assert "steps/s" in frames
    assert max(cell_len(line) for line in frames.splitlines()) <= 44
    assert (tmp_path / "out" / "report.json").is_file()
