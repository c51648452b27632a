"""Two environments measured by turns: what differs between two jobs is the same for both here."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal

from benchbox.errors import BadInputError
from benchbox.measure.attempt import Tick
from benchbox.measure.folder import make_work_dir
from benchbox.measure.other_side import Surroundings
from benchbox.measure.runner import Started
from benchbox.measure.site import Site
from benchbox.schema import AttemptResult, Case, Suite, WorkerTask

SideName = Literal["base", "new"]
SIDES: tuple[SideName, SideName] = ("base", "new")
MAX_ROUNDS = 200
"""Where the suite asks for no more itself."""
Undecided = Callable[[], Sequence[str]]


class VersusRun:
    """Attempts of both sides, one after the other, case by case and round by round.

    ``attempts`` are those of each side so far. Entering it starts a worker server for each.

    Raises (on entering): as :class:`benchbox.measure.site.Site`.
    """

    def __init__(
        self,
        suite: Suite,
        suite_dir: Path,
        out_dir: Path,
        *,
        device: str,
        surroundings: dict[SideName, Surroundings],
    ) -> None:
        self.suite = suite
        self.attempts: dict[SideName, list[AttemptResult]] = {"base": [], "new": []}
        self.sites = {
            side: Site(
                suite.cases,
                suite.measure,
                device,
                python=surroundings[side].python,
                variables=surroundings[side].variables,
            )
            for side in SIDES
        }
        self._surroundings = surroundings
        self._suite_dir = suite_dir.absolute()
        self._out_dir = out_dir
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> VersusRun:
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, _locked(self._out_dir))
            for site in self.sites.values():
                closing.enter_context(site)
            self._work_dir = make_work_dir(self._out_dir)
            closing.callback(shutil.rmtree, self._work_dir, ignore_errors=True)
            for site in self.sites.values():  # first of all, so that no worker writes there any more
                closing.callback(site.close_server)
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def events(
        self, undecided: Undecided, max_seconds: float
    ) -> Generator[tuple[SideName, Started | Tick | AttemptResult], None, None]:
        """Run rounds: the suite's repetitions of every case, then, as long as there is time, more of those
        that ``undecided`` names.

        It is asked at the rounds of :func:`next_look` only, because each look is one more chance to be
        decided by luck.
        """
        deadline = time.monotonic() + max_seconds
        repetitions = self.suite.measure.repetitions
        wanted = {case.case_id for case in self.suite.cases}
        look_at = repetitions
        for number in range(max(MAX_ROUNDS, repetitions)):
            if number == look_at:
                wanted &= set(undecided())
                look_at = next_look(look_at)
            wanted -= self._failed()
            end = deadline if number >= repetitions else math.inf
            if not wanted or time.monotonic() > end:
                return
            self._start_servers()
            num_total = self._num_done() + 2 * len(wanted) * max(repetitions - number, 1)
            for case, sides in self._round(number, wanted):
                if time.monotonic() > end:
                    return
                for side in sides:
                    yield from self._attempt(case, number, side, num_total)
            for site in self.sites.values():
                site.close_server()

    def _start_servers(self) -> None:
        """Both at once, and before the first attempt: one side's must not start while the other one waits for
        its turn, nor while it measures."""
        with ThreadPoolExecutor(len(SIDES)) as pool:
            for started in [pool.submit(site.running_server) for site in self.sites.values()]:
                started.result()

    def _round(self, number: int, wanted: set[str]) -> list[tuple[Case, tuple[SideName, ...]]]:
        """The cases in a seeded order. The side that goes first changes from round to round, so that what a
        first attempt leaves behind (heat, a filled cache) falls on both."""
        rng = random.Random(f"{self.suite.order_seed}-{number}")  # noqa: S311 - an order, no secret
        cases = [case for case in self.suite.cases if case.case_id in wanted]
        rng.shuffle(cases)
        places = {case.case_id: place for place, case in enumerate(self.suite.cases)}
        return [(case, SIDES if (number + places[case.case_id]) % 2 == 0 else SIDES[::-1]) for case in cases]

    def _attempt(
        self, case: Case, number: int, side: SideName, num_total: int
    ) -> Generator[tuple[SideName, Started | Tick | AttemptResult], None, None]:
        yield side, Started(case, number, self._num_done(), num_total)
        task = WorkerTask(
            case=case,
            measure=self.suite.measure,
            attempt=number,
            device=self.sites[side].placement.device(),
            extra_passes=number == 0,
            # Each side has its own, for the losses kept there are of one environment.
            run_dir=str(self._run_dir(side)),
            attempt_dir=str(self._work_dir / f"{side}-{case.case_id}-{number}"),
            import_dirs=self._surroundings[side].import_dirs,
            data_root=str(self._suite_dir),
        )
        with contextlib.closing(self.sites[side].attempt(task)) as watched:
            for event in watched:
                if isinstance(event, AttemptResult):
                    self.attempts[side].append(event)
                yield side, event

    def _num_done(self) -> int:
        return sum(map(len, self.attempts.values()))

    def _run_dir(self, side: SideName) -> Path:
        folder = self._work_dir / side
        folder.mkdir(exist_ok=True)
        return folder

    def _failed(self) -> set[str]:
        """Cases that did not end well on some side: how they end is known, and nothing more to be had."""
        return {a.case_id for attempts in self.attempts.values() for a in attempts if a.outcome != "ok"}


def _locked(folder: Path) -> int:
    """A descriptor of ``folder``, locked until it is closed: a second run there would take the first one's
    files for leftovers.

    Raises:
        BadInputError: another run has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadInputError(f"{folder}: another benchbox run is writing there") from None
    return descriptor


def next_look(num_rounds: int) -> int:
    """After how many rounds to look again: half as many more, so that looks stay few."""
    return num_rounds + max(1, (num_rounds + 1) // 2)
