from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchbox.report.plots.phases import PHASES
from benchbox.schema import Case, PhaseTimes
from benchbox.worker.data import MicroBatches
from benchbox.worker.phases import time_phases
from benchbox.worker.strategies.single import SingleEngine
from tests.worker.tasks import CPU, IMAGES, make_case, write_forward, write_model

WAIT_NS = 20_000_000


def batches(case: Case, wait_s: float = 0.0) -> Iterator[MicroBatches]:
    step = tuple(
        (torch.randn(case.per_device_batch_size, *case.input_shape), torch.arange(case.per_device_batch_size))
        for _ in range(case.gradient_accumulation_steps)
    )
    while True:
        time.sleep(wait_s)
        yield step


def test_the_whole_is_the_sum_of_all_phases_and_each_is_shown() -> None:
    names = [name for name in PhaseTimes.__struct_fields__ if name.endswith("_ns")]
    phases = PhaseTimes(num_steps=1, **{name: 10**place for place, name in enumerate(names)})
    assert phases.whole_ns == sum(10**place for place in range(len(names)))
    assert [field for _, field, _ in PHASES] == names


def test_the_wait_for_input_is_a_phase_of_its_own() -> None:
    case = make_case()
    phases = time_phases(SingleEngine(case, CPU, ()), batches(case, wait_s=0.02), 3)
    assert phases.num_steps == 3
    assert phases.input_wait_ns >= WAIT_NS
    assert phases.host_to_device_ns < phases.input_wait_ns
    assert phases.forward_ns > 0
    assert phases.backward_ns > 0
    assert phases.optimizer_ns > 0


@pytest.mark.parametrize("accumulation", [1, 3])
def test_phases_are_summed_over_the_micro_batches_of_a_step(tmp_path: Path, accumulation: int) -> None:
    model = write_forward(tmp_path, "import time; time.sleep(0.02)")
    case = make_case(IMAGES, model=model, gradient_accumulation_steps=accumulation)
    phases = time_phases(SingleEngine(case, CPU, (str(tmp_path),)), batches(case), 3)
    assert phases.forward_ns >= accumulation * WAIT_NS
    assert phases.input_wait_ns < phases.forward_ns


def test_time_in_the_backward_pass_is_the_backward_passs(tmp_path: Path) -> None:
    name = write_model(
        tmp_path,
        """
        import time

        class Slow(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x.clone()
            @staticmethod
            def backward(ctx, gradient): time.sleep(0.02); return gradient

        class Own(nn.Linear):
            def __init__(self): super().__init__(16, 4)
            def forward(self, x): return Slow.apply(super().forward(x))
        """,
    )
    case = make_case(model=f"{name}:Own")
    phases = time_phases(SingleEngine(case, CPU, (str(tmp_path),)), batches(case), 2)
    assert phases.backward_ns >= WAIT_NS


def test_one_slow_step_does_not_move_the_median() -> None:
    case = make_case()
    waits = iter([0.3, 0.0, 0.0, 0.0, 0.0])
    steps = batches(case)

    def with_a_slow_one() -> Iterator[MicroBatches]:
        while True:
            time.sleep(next(waits))
            yield next(steps)

    phases = time_phases(SingleEngine(case, CPU, ()), with_a_slow_one(), 5)
    assert phases.input_wait_ns < 300_000_000


def test_the_phase_pass_trains_as_a_step_does() -> None:
    case = make_case(gradient_accumulation_steps=2)
    timed, stepped = SingleEngine(case, CPU, ()), SingleEngine(case, CPU, ())
    source = batches(case)
    time_phases(timed, source, 2)
    for _ in range(2):
        stepped.step(next(source))
    for a, b in zip(timed.module.parameters(), stepped.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)
