from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from benchbox.schema import MeasureSettings
from benchbox.worker.clock import make_clock
from benchbox.worker.data import make_batches
from benchbox.worker.loop import LossNotFiniteError, Measured, measure, run_steps
from benchbox.worker.strategies.single import SingleEngine
from tests.worker.tasks import CPU, IMAGES, make_case, make_task, write_forward
from tests.worker.watch import put_on


def measure_own(
    folder: Path, body: str, *, compiles: bool = False, log: list[Any] | None = None, **settings: Any
) -> Measured:
    case = make_case(IMAGES, model=write_forward(folder, body))
    task = make_task(folder, case, import_dirs=(str(folder),))
    log = [] if log is None else log
    return measure(
        SingleEngine(case, CPU, task.import_dirs),
        make_batches(task, CPU),
        MeasureSettings(**settings),
        compiles=compiles,
        report_progress=lambda *progress: log.append(progress),
    )


@pytest.mark.parametrize("compiles", [False, True])
def test_only_compiling_is_not_paid_from_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiles: bool
) -> None:
    put_on(monkeypatch, lambda step: 600_000_000 if step == 0 else 10_000_000 + step % 7)
    measured = measure_own(tmp_path, "", compiles=compiles, max_seconds=0.5, ci_target_pct=1e-9)
    assert measured.warmup_s >= 0.6
    assert measured.stop_reason == "time-budget"
    if compiles:
        spent_ns = sum(measured.warmup_step_time_ns[1:]) + sum(measured.step_time_ns)
        assert spent_ns == pytest.approx(0.5e9, abs=0.011e9)  # to the step
    else:
        assert len(measured.step_time_ns) == 3  # the budget was gone before measuring began


def test_every_step_takes_a_new_batch_and_is_timed() -> None:
    case = make_case()
    engine, batch = SingleEngine(case, CPU, ()), (torch.randn(4, 16), torch.arange(4))
    taken: list[int] = []

    def batches() -> Any:
        while True:
            taken.append(len(taken))
            yield (batch,)

    before = [parameter.detach().clone() for parameter in engine.module.parameters()]
    times, loss, _ = run_steps(engine, batches(), make_clock(CPU, 5), 5)
    assert len(times) == len(taken) == 5
    assert min(times) > 0
    assert loss.dim() == 0
    for old, new in zip(before, engine.module.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_a_window_ends_with_its_last_step_however_long_the_marks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where every step has an event."""
    watch = put_on(monkeypatch, lambda step: 10_000_000 + step % 7)
    read_ns = watch.read_ns

    def read_slowly(num_steps: int) -> list[int]:
        watch.now_ns += 3_000_000
        return read_ns(num_steps)

    monkeypatch.setattr(watch, "read_ns", read_slowly)
    measured = measure_own(tmp_path, "", max_seconds=5, ci_target_pct=1e-9)
    assert len(measured.windows) > 2
    for before, window in pairwise(measured.windows):
        assert window.start_at_ns == before.end_at_ns + 3_000_000
    assert watch.now_ns == measured.windows[-1].end_at_ns + 3_000_000


@pytest.mark.parametrize(("first_nan", "num_steps"), [(1, 1), (40, 64), (300, 320)])
def test_a_loss_that_is_no_number_ends_measuring_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_nan: int, num_steps: int
) -> None:
    """Of more than two thousand steps: at the end of the first, of a block of warm-up or of a window."""
    put_on(monkeypatch, lambda step: 10_000_000)
    body = f"""
    self.calls = getattr(self, "calls", 0) + 1
    y = y if self.calls < {first_nan} else y * float("nan")
    """
    with pytest.raises(LossNotFiniteError, match=r"the loss is not finite: nan at step \d+$") as raised:
        measure_own(tmp_path, body, max_seconds=25, ci_target_pct=1e-9)
    assert first_nan <= int(str(raised.value).split()[-1]) <= num_steps


def test_progress_is_told_between_windows_and_never_inside(tmp_path: Path) -> None:
    log: list[tuple[str, int, float]] = []
    measured = measure_own(
        tmp_path, "import time; time.sleep(0.002)", log=log, max_seconds=0.5, ci_target_pct=1e-6
    )
    told = [(num_steps, step_s) for phase, num_steps, step_s in log if phase == "measuring"]
    ends = [sum(window.num_steps for window in measured.windows[: i + 1]) for i in range(len(told))]
    assert [num_steps for num_steps, _ in told] == ends
    assert len(told) == len(measured.windows)
    assert all(step_s >= 0.002 for _, step_s in told)
    assert {phase for phase, _, _ in log} == {"warm-up", "measuring"}
