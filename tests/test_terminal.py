"""What a person sees on a terminal, and what a program sees in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import uuid
from pathlib import Path

import pytest

from tests.runs import (
    BENCHBOX,
    MARK,
    ONE_CASE,
    environment,
    journal_attempts,
    marked_processes,
    wait_until,
    write_suite,
)

GOLDEN = Path(__file__).parent / "report" / "golden" / "report-v1.json"


def on_a_terminal(*arguments: str | Path, cwd: Path, **variables: str) -> tuple[int, str]:
    """Run the command line on a terminal of 100 columns; its exit code and everything it wrote."""
    controlling, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [BENCHBOX, *map(str, arguments)],
        cwd=cwd,
        env=environment(TERM="xterm-256color", **variables),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    try:
        while received := os.read(controlling, 65536):
            written += received
    except OSError:  # how Linux tells that the other end is closed
        pass
    finally:
        os.close(controlling)
    return process.wait(60), written.decode()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_run_shows_a_live_display_and_leaves_a_clean_screen(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ONE_CASE, max_seconds=0.8, profile_step=False, telemetry_hz=20)
    code, written = on_a_terminal("run", suite, "--out", tmp_path / "out", "--trace", cwd=tmp_path)
    assert code == 0
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert written.count(hide) == written.count(show) == 1
    live, after = written.split(show)
    assert "steps/s" in live
    assert re.search(r"worker \d+ MiB", plain(live))
    assert "━" in live
    assert "0/1" in live
    assert re.search(r"\[1/1\].*ok.*samples/s", plain(live))
    assert "warning: no trace of mlp b32 fp32: no step of it was profiled" in plain(after)
    assert after.rstrip().endswith("report.json and report.md")
    # Nothing moves the cursor any more; what is left of escapes are colours.
    assert not re.search(r"\x1b(?!\[[0-9;]*m)", re.sub(r"^(\r|\x1b\[[0-9]*[AK])*", "", after))


@pytest.mark.parametrize("arguments", [("report", str(GOLDEN)), ("hw", "list")], ids=["report", "hw"])
def test_colours_are_for_terminals_that_want_them(arguments: tuple[str, ...], tmp_path: Path) -> None:
    colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7]|38)[;m]")
    code, coloured = on_a_terminal(*arguments, cwd=tmp_path)
    no_code, uncoloured = on_a_terminal(*arguments, cwd=tmp_path, NO_COLOR="1")
    assert code == no_code == 0
    assert "\x1b[" in coloured
    assert colour.search(uncoloured) is None


@pytest.mark.parametrize(
    "arguments",
    ["--help", "schema", "hw list", f"report {GOLDEN}", f"report --format markdown {GOLDEN}"],
)
def test_a_reader_that_stops_early_is_no_error(arguments: str, tmp_path: Path) -> None:
    for reader in ("head -1", "true"):
        done = subprocess.run(
            ["bash", "-c", f"{BENCHBOX} {arguments} | {reader}"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.stderr == ""


def test_a_run_whose_reader_stops_ends_and_leaves_no_process(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    suite = write_suite(tmp_path, repetitions=50)
    done = subprocess.run(
        ["bash", "-c", f"{BENCHBOX} run {suite} --out out | head -1"],
        cwd=tmp_path,
        env=environment(**{MARK: mark}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("[1/100]")
    assert wait_until(lambda: marked_processes(mark) == [], 20)
    assert 1 <= len(journal_attempts(tmp_path / "out")) < 100
