"""What one of two ranks does ends both, and each leaves its word: real processes under torchrun."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.schema import RankResult, WorkerTask
from tests.worker.tasks import IMAGES, make_case, make_task, write_forward, write_model
from tests.worker.together import results, torchrun, write_task

pytestmark = pytest.mark.timeout(660)

ON_RANK_1 = "import os\nif os.environ['RANK'] == '1': "
ENDED_IN_PASSES = "the process was ended during its extra passes"


def run(folder: Path, model: str, strategy: str = "ddp", **measure: int) -> tuple[WorkerTask, int]:
    case = make_case(IMAGES, model=model, strategy=strategy, world_size=2)
    task = make_task(folder, case, extra_passes=True, import_dirs=(str(folder),), **measure)
    return task, torchrun("-m", "benchbox.worker.rank", write_task(task)).returncode


def of_rank(task: WorkerTask, number: int) -> RankResult | None:
    """``None`` where torchrun ended the rank before it could write."""
    return next((rank for rank in results(task) if rank.rank == number), None)


@pytest.mark.parametrize(
    ("statement", "outcome", "reason"),
    [
        ("raise ValueError('not today')", "crashed", "ValueError: not today"),
        ("raise torch.OutOfMemoryError('CUDA out of memory')", "oom", "OutOfMemoryError: CUDA out of memory"),
    ],
)
def test_an_exception_on_one_rank_ends_both(
    tmp_path: Path, statement: str, outcome: str, reason: str
) -> None:
    task, status = run(tmp_path, write_forward(tmp_path, ON_RANK_1 + statement))
    assert status != 0
    guilty, other = of_rank(task, 1), of_rank(task, 0)
    assert guilty is not None
    assert (guilty.outcome, guilty.reason) == (outcome, reason)
    assert "not today" in Path(task.attempt_dir, "stderr.rank1.txt").read_text() or outcome == "oom"
    if other is not None:
        assert other.outcome == "crashed"
        assert other.reason is not None
        assert other.reason.startswith("another rank ended: ")


def test_a_loss_that_is_no_number_makes_the_case_invalid_on_both(tmp_path: Path) -> None:
    """A rank whose own loss is sound says that it was not its own. Nobody trains on for the case's 25 s."""
    body = f"""
self.calls = getattr(self, "calls", 0) + 1
if self.calls > 2: raise RuntimeError("it goes on")
{ON_RANK_1}y = y * float('nan')
"""
    task, status = run(tmp_path, write_forward(tmp_path, body), max_seconds=25)
    assert status != 0
    for rank in (of_rank(task, 0), of_rank(task, 1)):
        assert rank is not None
        assert rank.outcome == "invalid"
        assert rank.reason is not None
        assert "loss is not finite" in rank.reason
        assert rank.loss_check is None


def test_what_was_measured_stands_when_a_rank_fails_in_an_extra_pass(tmp_path: Path) -> None:
    """The third model that a process builds is the one whose losses are compared."""
    name = write_model(
        tmp_path,
        """
        import os
        num_built = 0

        class Own(nn.Module):
            def __init__(self):
                global num_built
                super().__init__()
                num_built += 1
                self.fails = num_built == 3 and os.environ['RANK'] == '1'
                self.linear = nn.Linear(3 * 8 * 8, 5)

            def forward(self, x):
                if self.fails:
                    raise ValueError("not in a pass")
                return self.linear(x.flatten(1))
        """,
    )
    task, status = run(tmp_path, f"{name}:Own")
    assert status != 0
    guilty, other = of_rank(task, 1), of_rank(task, 0)
    assert guilty is not None
    assert other is not None
    assert (guilty.outcome, guilty.extra_passes_failed_reason) == ("ok", "ValueError: not in a pass")
    assert other.outcome == "ok"
    assert other.extra_passes_failed_reason is not None
    assert other.extra_passes_failed_reason.startswith((ENDED_IN_PASSES, "another rank ended: "))
    for rank in (guilty, other):
        assert rank.step_time_ns
        assert rank.phases is not None
        assert rank.communication is not None
        assert rank.loss_check is None


def test_a_training_that_diverges_is_invalid_on_both(tmp_path: Path) -> None:
    """Ranks that train on other numbers than one device does are found out."""
    name = write_model(
        tmp_path,
        """
        class Own(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3 * 8 * 8, 5)

            def forward(self, x):
                y = self.linear(x.flatten(1))
                is_wrapped = len(self._forward_hooks) > 0
                return 2 * y if is_wrapped else y
        """,
    )
    task, status = run(tmp_path, f"{name}:Own", strategy="fsdp2", num_trajectory_steps=3)
    assert status != 0
    ranks = results(task)
    assert [rank.outcome for rank in ranks] == ["invalid", "invalid"]
    assert len({rank.reason for rank in ranks}) == 1
    assert ranks[0].reason is not None
    assert ranks[0].reason.startswith("losses differ from fp32 by more than 0.001: ")


def test_gradients_that_are_not_exchanged_make_the_case_invalid(tmp_path: Path) -> None:
    name = write_model(
        tmp_path,
        """
        from torch.nn.parallel import DistributedDataParallel

        never = property(lambda ddp: False, lambda ddp, value: None)
        DistributedDataParallel.require_backward_grad_sync = never

        def make():
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
        """,
    )
    task, status = run(tmp_path, f"{name}:make", num_trajectory_steps=3)
    assert status != 0
    for rank in results(task):
        assert rank.outcome == "invalid", rank.reason
        assert rank.reason is not None
        assert rank.reason.startswith("losses differ from fp32 by more than 0.001: ")


def test_a_rank_alone_in_its_group_is_well(tmp_path: Path) -> None:
    """Strategies of one rank go the same way; nothing is timed as communication."""
    case = make_case(strategy="ddp", world_size=1)
    task = make_task(tmp_path, case, extra_passes=True)
    assert torchrun("-m", "benchbox.worker.rank", write_task(task), num_ranks=1).returncode == 0
    (rank,) = results(task)
    assert (rank.outcome, rank.reason, rank.extra_passes_failed_reason) == ("ok", None, None)
    assert rank.loss_check is not None
    assert rank.loss_check.losses == rank.loss_check.reference_losses
    assert rank.communication is None
