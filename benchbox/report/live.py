"""What a person sees while a suite runs: a live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchbox.analyze.ranks import longest_steps
from benchbox.measure.attempt import Tick
from benchbox.measure.runner import Started
from benchbox.report.text import case_label, duration, memory, significant
from benchbox.schema import AttemptResult, Suite

_STYLE = {
    "ok": "green",
    "unsupported": "yellow",
    "invalid": "red",
    "oom": "red",
    "timeout": "red",
    "crashed": "red",
}


class Display(Protocol):
    """Shows events as they come."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, event: object) -> None:
        """Show an event of the run."""

    def note(self, text: str) -> None:
        """Say what is going on outside the attempts."""


def open_display(console: Console, suite: Suite, *, quiet: bool) -> Display:
    """The display that fits where the output goes."""
    if quiet:
        return Silent()
    return LiveDisplay(console, suite) if console.is_terminal else PlainLines(console, suite)


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: object) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


class _Course:
    """How far the run is and how long it may still take."""

    def __init__(self, suite: Suite) -> None:
        self.cases = {case.case_id: case for case in suite.cases}
        self.started: Started | None = None
        self._durations: list[float] = []

    def finish(self, attempt: AttemptResult) -> None:
        """Count a finished attempt, unless nothing was started for it."""
        if attempt.duration_s > 0:
            self._durations.append(attempt.duration_s)

    def left_s(self) -> float | None:
        """Seconds left, from the mean of the attempts so far; ``None`` before the first has ended."""
        if self.started is None or not self._durations:
            return None
        num_left = self.started.num_total - self.started.num_done
        return num_left * sum(self._durations) / len(self._durations)

    def result(self, attempt: AttemptResult) -> Text:
        """One line about a finished attempt."""
        line = Text(overflow="ellipsis", no_wrap=True)
        if self.started is not None:
            line.append(f"[{self.started.num_done + 1}/{self.started.num_total}] ", style="dim")
        case = self.cases[attempt.case_id]
        line.append(f"{case_label(case)} #{attempt.attempt + 1}  ")
        line.append(attempt.outcome, style=_STYLE[attempt.outcome])
        if attempt.outcome == "ok" and (steps := longest_steps(attempt).step_time_ns):
            rate = case.global_batch_size * len(steps) / (sum(steps) / 1e9)
            line.append(f"  {significant(rate)} samples/s, {len(steps)} steps")
        elif attempt.reason:
            line.append(f"  {attempt.reason}")
        if attempt.duration_s > 0:  # nothing was started for what cannot run
            line.append(f"  {duration(attempt.duration_s * 1e9)}", style="dim")
        return line


class PlainLines:
    """One line a finished attempt, no control sequences."""

    def __init__(self, console: Console, suite: Suite) -> None:
        self._console = console
        self._course = _Course(suite)

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, event: object) -> None:
        """Print a line when an attempt has ended."""
        if isinstance(event, Started):
            self._course.started = event
        elif isinstance(event, AttemptResult):
            self._course.finish(event)
            self._console.print(self._course.result(event), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print ``text``."""
        self._console.print(Text(text, style="dim"))


class LiveDisplay:
    """Finished attempts scroll by; below them stands the running one with a bar."""

    def __init__(self, console: Console, suite: Suite) -> None:
        self._console = console
        self._course = _Course(suite)
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, event: object) -> None:
        """Update the screen."""
        if isinstance(event, Started):
            self._course.started = event
            self._live.update(self._frame(event, None))
        elif isinstance(event, Tick) and self._course.started is not None:
            self._live.update(self._frame(self._course.started, event))
        elif isinstance(event, AttemptResult):
            self._course.finish(event)
            self._console.print(self._course.result(event))

    def note(self, text: str) -> None:
        """Show ``text`` in place of an attempt."""
        self._live.update(Text(text, style="dim"))

    def _frame(self, started: Started, tick: Tick | None) -> RenderableType:
        now = Text(overflow="ellipsis", no_wrap=True)
        now.append(case_label(started.case), style="bold")
        now.append(f"  repetition {started.attempt + 1}", style="dim")
        parts = ["starting"] if tick is None or tick.phase is None else [tick.phase]
        if tick is not None:
            parts += [f"{significant(1 / tick.step_s)} steps/s"] if tick.step_s else []
            if tick.device_memory_used_bytes is not None:
                parts.append(f"device {memory(tick.device_memory_used_bytes)}")
            elif tick.host_rss_bytes is not None:
                parts.append(f"worker {memory(tick.host_rss_bytes)}")
            parts.append(duration(tick.elapsed_s * 1e9))
        left_s = self._course.left_s()
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_column(no_wrap=True)
        bar.add_row(
            ProgressBar(total=started.num_total, completed=started.num_done),
            f"{started.num_done}/{started.num_total}",
            "" if left_s is None else f"about {duration(left_s * 1e9)} left",
        )
        return Group(now, Text(", ".join(parts), style="cyan", overflow="ellipsis", no_wrap=True), bar)
