"""A suggested case beside the original: attempts by turns on one machine, so that drift falls on both."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from msgspec.structs import replace

from benchbox.measure.attempt import Tick
from benchbox.measure.runner import Started, SuiteRun
from benchbox.schema import AttemptResult, Case, Environment, MeasureSettings, Suite

_NO_PASSES = {
    "telemetry_hz": 0.0,
    "num_phase_steps": 0,
    "profile_step": False,
    "num_input_rounds": 0,
    "num_split_rounds": 0,
    "num_communication_steps": 0,
    "ceiling_seconds": 0.0,
}
"""Both sides are timed and nothing else; whether losses agree with fp32 is still looked at."""

Side = tuple[Case, MeasureSettings]


def run_by_turns(
    original: Side, suggested: Side, suite_dir: Path, *, device: str, repetitions: int
) -> Generator[
    Environment | AttemptResult | Tick | Started, None, tuple[list[AttemptResult], list[AttemptResult]]
]:
    """Yields where it runs, then what happens; returns the attempts of both sides, taken in the order
    original, suggested, suggested, original.

    A side that fails is not tried again, and then the other neither.

    Raises:
        BadInputError: there is no such device.
        WorkerStartError: the worker's interpreter cannot be started.
    """
    attempts: tuple[list[AttemptResult], list[AttemptResult]] = ([], [])
    with contextlib.ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="benchbox-try-")))
        sides = [
            closing.enter_context(_open(side, suite_dir, folder / name, device, repetitions))
            for name, side in (("original", original), ("suggested", suggested))
        ]
        yield sides[0].environment
        events = [closing.enter_context(contextlib.closing(side.events())) for side in sides]
        for number in range(repetitions):
            for place in (0, 1) if number % 2 == 0 else (1, 0):
                result = yield from _next_attempt(events[place])
                if result is not None:
                    attempts[place].append(result)
            if any(attempt.outcome != "ok" for side in attempts for attempt in side):
                break
    return attempts


def _open(side: Side, suite_dir: Path, folder: Path, device: str, repetitions: int) -> SuiteRun:
    case, settings = side
    measure = replace(settings, repetitions=repetitions, **_NO_PASSES)
    suite = Suite(name="try", cases=(case,), measure=measure, order_seed=0)
    return SuiteRun(suite, suite_dir, folder, device=device, resume=False, force=False)


def _next_attempt(
    events: Iterator[Started | Tick | AttemptResult],
) -> Generator[AttemptResult | Tick | Started, None, AttemptResult | None]:
    for event in events:
        yield event
        if isinstance(event, AttemptResult):
            return event
    return None
