from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from benchbox.schema import Case, LossCheck, RankResult
from benchbox.worker import attempt
from benchbox.worker.attempt import run_attempt, write_aside
from benchbox.worker.data import generate_images
from tests.worker.tasks import IMAGES, SMALL_CNN, make_case, make_task, write_forward, write_model
from tests.worker.watch import put_on


def run(folder: Path, case: Case, **options: Any) -> RankResult:
    """One attempt in this process; what it left. Models of one's own are imported from ``folder``."""
    task = make_task(folder, case, import_dirs=(str(folder),), **options)
    run_attempt(task)
    files = sorted(path.name for path in Path(task.attempt_dir).iterdir())
    assert files in (["rank0.json"], ["progress.json", "rank0.json"])  # nothing half-written
    return msgspec.json.decode(Path(task.attempt_dir, "rank0.json").read_bytes(), type=RankResult)


# --- what goes well ----------------------------------------------------------------------------------------


def test_an_attempt_leaves_its_raw_times(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case())
    assert (rank.rank, rank.outcome, rank.reason) == (0, "ok", None)
    assert rank.ready_at_ns is not None
    assert rank.process_start_at_ns < rank.ready_at_ns < rank.finished_at_ns
    assert rank.warmup_end is not None
    assert rank.stop_reason is not None
    assert rank.num_threads == torch.get_num_threads()
    assert len(rank.warmup_step_time_ns) >= 3
    assert len(rank.step_time_ns) >= 3
    assert min(rank.step_time_ns) > 0
    assert rank.first_loss is not None
    assert rank.last_loss is not None


def test_windows_hold_all_measured_steps_and_nothing_else(tmp_path: Path) -> None:
    # However fast or slow this machine is: a first window, of a tenth of the budget, cannot hold 500 steps,
    # and nothing ends measuring before.
    limits = {"min_measured_steps": 500, "max_measured_steps": 500, "ci_target_pct": 1e-6}
    rank = run(tmp_path, make_case(), max_seconds=0.1, **limits)
    assert len(rank.step_time_ns) == 500
    assert sum(window.num_steps for window in rank.windows) == len(rank.step_time_ns)
    assert len(rank.windows) > 1
    first = 0
    for window in rank.windows:
        steps = rank.step_time_ns[first : first + window.num_steps]
        assert sum(steps) <= window.end_at_ns - window.start_at_ns
        first += window.num_steps
    stamps = [stamp for window in rank.windows for stamp in (window.start_at_ns, window.end_at_ns)]
    assert stamps == sorted(stamps)
    assert rank.ready_at_ns is not None
    assert rank.ready_at_ns + rank.warmup_s * 1e9 <= stamps[0]
    assert stamps[-1] <= rank.finished_at_ns


def test_memory_and_the_kernels_charges_are_told(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(SMALL_CNN), ci_target_pct=1e-6)
    assert rank.memory is not None
    assert rank.memory.peak_memory_allocated_bytes is None  # torch keeps no account of a CPU's
    assert rank.memory.peak_host_rss_bytes is not None
    assert rank.memory.peak_host_rss_bytes > 50 << 20  # torch alone is larger
    assert rank.host_usage is not None
    spent_s = rank.host_usage.cpu_user_s + rank.host_usage.cpu_kernel_s
    windows_s = sum(window.end_at_ns - window.start_at_ns for window in rank.windows) / 1e9
    assert 0 < spent_s <= windows_s * torch.get_num_threads() * 1.5 + 0.1


@pytest.mark.parametrize(("replays_graphs", "allocated"), [(False, 7), (True, None)])
def test_what_replayed_graphs_allocate_is_unknown(
    monkeypatch: pytest.MonkeyPatch, replays_graphs: bool, allocated: int | None
) -> None:
    """Torch counts it once, when the graph is made, and the peak is that of measured steps."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 9)
    engine = SimpleNamespace(device=torch.device("cuda"), replays_graphs=replays_graphs)
    memory = attempt._memory(engine)
    assert (memory.peak_memory_allocated_bytes, memory.peak_memory_reserved_bytes) == (allocated, 9)


def test_the_extra_passes_are_made_when_asked_for(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(precision="bf16"), extra_passes=True)
    assert rank.outcome == "ok"
    assert rank.evidence_passes_s is not None
    assert 0 < rank.evidence_passes_s <= rank.extra_passes_s
    assert rank.phases is not None
    assert rank.phases.num_steps == 2
    assert rank.flops is not None
    assert rank.flops.num_parameters == 16 * 8 + 8 + 8 * 4 + 4
    assert rank.loss_check is not None
    assert rank.loss_check.agrees_with_fp32 is True
    assert len(rank.loss_check.losses) == 2


def test_phases_take_at_most_half_of_the_steps_that_are_measured(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(), extra_passes=True, num_phase_steps=1000, repetitions=1)
    assert rank.phases is not None
    assert rank.phases.num_steps == len(rank.step_time_ns) // 2


def test_the_extra_passes_are_left_out_otherwise(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case())
    assert (rank.phases, rank.flops, rank.loss_check, rank.extra_passes_s) == (None, None, None, 0)


def test_each_pass_can_be_left_out(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(), extra_passes=True, num_phase_steps=0, num_trajectory_steps=0)
    assert (rank.phases, rank.loss_check) == (None, None)
    assert rank.flops is not None


@pytest.mark.parametrize("data", ["host", "loader", "folder"])
def test_every_kind_of_data_can_be_trained_on(tmp_path: Path, data: str) -> None:
    more: dict[str, Any] = {"num_generated_images": 4} if data == "folder" else {}
    workers = None if data == "host" else 1
    rank = run(tmp_path, make_case(SMALL_CNN, more, data=data, num_loader_workers=workers), extra_passes=True)
    assert (rank.outcome, rank.reason) == ("ok", None)


def test_on_the_digits_the_loss_falls(tmp_path: Path) -> None:
    case = make_case(SMALL_CNN, data="digits", per_device_batch_size=32)
    rank = run(tmp_path, case, max_warmup_steps=5, min_measured_steps=20, max_measured_steps=20)
    assert (rank.outcome, rank.reason) == ("ok", None)
    assert rank.first_loss is not None
    assert rank.last_loss is not None
    assert rank.last_loss < 0.9 * rank.first_loss


def test_a_model_of_ones_own_is_trained_and_counted(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(IMAGES, model=write_forward(tmp_path, "")), extra_passes=True)
    assert rank.outcome == "ok"
    assert rank.flops is not None
    assert rank.flops.num_parameters == 3 * 8 * 8 * 5 + 5


def test_flops_that_cannot_be_counted_are_unknown_and_not_an_error(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "y = y * float(y.detach().abs().max() > -1)")
    rank = run(tmp_path, make_case(IMAGES, model=model), extra_passes=True)
    assert rank.outcome == "ok"
    assert rank.flops is None
    assert rank.flops_unknown_reason is not None
    assert rank.flops_unknown_reason.startswith("not countable on the meta device: ")


# --- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "outcome", "reason"),
    [
        ("raise RuntimeError('boom\\nand more')", "crashed", "RuntimeError: boom"),
        ("raise MemoryError", "oom", "MemoryError"),
        ("torch.empty(2**50)", "oom", "RuntimeError: [enforce fail at alloc_cpu.cpp"),
        ("raise OSError('/images/\\udcff.jpg \\x1b[2J')", "crashed", "OSError: /images/.jpg [2J"),
    ],
)
def test_an_error_is_an_outcome_with_one_line_and_its_traceback_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], body: str, outcome: str, reason: str
) -> None:
    rank = run(tmp_path, make_case(IMAGES, model=write_forward(tmp_path, body)))
    assert rank.outcome == outcome
    assert rank.reason is not None
    assert rank.reason.startswith(reason)
    assert rank.reason.isprintable()
    assert rank.ready_at_ns is not None
    assert rank.step_time_ns == ()
    assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_is_invalid(tmp_path: Path, value: str) -> None:
    rank = run(tmp_path, make_case(IMAGES, model=write_forward(tmp_path, f"y = y * float('{value}')")))
    assert rank.outcome == "invalid"
    assert rank.reason is not None
    assert rank.reason == "the loss is not finite: nan at step 1"
    assert (rank.first_loss, rank.last_loss) == (None, None)
    assert (rank.step_time_ns, rank.loss_check) == ((), None)
    assert rank.memory is not None


def test_a_loss_that_becomes_no_number_on_the_way_is_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on(monkeypatch, lambda step: 1_000_000)  # how many steps a block has depends on how long they take
    model = write_forward(
        tmp_path,
        """
        self.calls = getattr(self, "calls", 0) + 1
        y = y if self.calls == 1 else y * float("nan")
        """,
    )
    rank = run(tmp_path, make_case(IMAGES, model=model))
    assert rank.outcome == "invalid"
    assert rank.reason == "the loss is not finite: nan at step 3"  # with which its block ends


def test_digits_that_are_not_learned_are_invalid(tmp_path: Path) -> None:
    rank = run(tmp_path, make_case(SMALL_CNN, data="digits", learning_rate=1e-15))
    assert rank.outcome == "invalid"
    assert rank.reason is not None
    assert rank.reason.startswith("the loss on the digits did not fall: 2.")


def test_a_fast_case_that_computes_something_else_is_invalid(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "if torch.is_autocast_enabled('cpu'): y = 3 * y")
    rank = run(tmp_path, make_case(IMAGES, model=model, precision="bf16"), extra_passes=True)
    assert rank.outcome == "invalid"
    assert rank.reason is not None
    assert rank.reason.startswith("losses differ from fp32 by more than 0.03: ")
    assert rank.step_time_ns


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"precision": "tf32"}, "tf32 needs an NVIDIA GPU"),
        ({"world_size": 2}, "strategy single trains on one device, not on 2"),
    ],
)
def test_what_cannot_be_done_is_unsupported_before_anything_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], reason: str
) -> None:
    rank = run(tmp_path, make_case(changes))
    assert rank.outcome == "unsupported"
    assert rank.reason is not None
    assert rank.reason.startswith(reason)
    assert rank.ready_at_ns is None
    assert capsys.readouterr().err == ""


def test_a_model_that_cannot_checkpoint_is_unsupported(tmp_path: Path) -> None:
    case = make_case(IMAGES, model=write_forward(tmp_path, ""), gradient_checkpointing=True)
    assert run(tmp_path, case).outcome == "unsupported"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def make(): return 3", "TypeError: own_"),
        ("raise ImportError('no such thing')", "ImportError: no such thing"),
        ("def make(", "SyntaxError: "),
    ],
)
def test_a_factory_that_fails_is_a_crash_with_its_own_words(tmp_path: Path, source: str, reason: str) -> None:
    rank = run(tmp_path, make_case(model=f"{write_model(tmp_path, source)}:make"))
    assert rank.outcome == "crashed"
    assert rank.reason is not None
    assert rank.reason.startswith(reason)


def test_more_class_folders_than_the_model_has_classes_is_a_crash_that_says_so(tmp_path: Path) -> None:
    generate_images(tmp_path / "images", 4, 4, 0)
    model = write_forward(tmp_path, "")
    case = make_case(
        IMAGES, model=model, num_classes=3, data="folder", data_dir="images", num_loader_workers=0
    )
    rank = run(tmp_path, case)
    assert rank.outcome == "crashed"
    assert rank.reason == f"ValueError: {tmp_path}/images: 4 class folders, but the model has 3 classes"


# --- what the live display reads ---------------------------------------------------------------------------


def test_progress_says_where_the_attempt_stands(tmp_path: Path) -> None:
    task = make_task(tmp_path, make_case())
    run_attempt(task)
    progress = msgspec.json.decode(Path(task.attempt_dir, "progress.json").read_bytes())
    rank = msgspec.json.decode(Path(task.attempt_dir, "rank0.json").read_bytes(), type=RankResult)
    assert progress == {
        "phase": "measuring",
        "num_steps": len(rank.step_time_ns),
        "step_s": pytest.approx(sum(rank.step_time_ns) / len(rank.step_time_ns) / 1e9),
    }


def test_the_users_folders_come_last_on_the_path(tmp_path: Path) -> None:
    run(tmp_path, make_case(IMAGES, model=write_forward(tmp_path, "")))
    assert sys.path[-1] == str(tmp_path)


def test_a_pass_that_fails_after_measuring_does_not_take_the_measurement_with_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The model works once and cannot be built a second time, as the loss check does."""
    name = write_model(
        tmp_path,
        """
        built = 0

        def factory():
            global built
            built += 1
            if built > 1 and torch.empty(1).device.type != "meta":
                raise RuntimeError("only one of me")
            return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
        """,
    )
    rank = run(tmp_path, make_case(IMAGES, model=f"{name}:factory"), extra_passes=True)
    assert (rank.outcome, rank.reason) == ("ok", None)
    assert rank.extra_passes_failed_reason == "RuntimeError: only one of me"
    assert rank.loss_check is None
    assert rank.phases is not None
    assert rank.extra_passes_s > 0
    assert "only one of me" in capfd.readouterr().err


def test_what_there_is_is_left_before_each_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends in a later pass has left its measurement, and what its losses said."""
    task = make_task(tmp_path, make_case(), extra_passes=True)
    left: list[RankResult] = []

    def passes(*_: object) -> Iterator[dict[str, Any]]:
        for fields in ({"phases": None}, {"loss_check": differs}, {"all_reduce": ()}):
            written = Path(task.attempt_dir, "rank0.json").read_bytes()
            left.append(msgspec.json.decode(written, type=RankResult))
            yield fields

    differs = LossCheck(
        losses=(1.0,),
        digest="",
        reference_losses=(2.0,),
        tolerance_rel=0.1,
        agrees_with_fp32=False,
        reason="losses differ",
    )
    monkeypatch.setattr(attempt, "extra_passes", passes)
    run_attempt(task)
    ended = "the process was ended during its extra passes"
    ok, wrong = ("ok", None, ended), ("invalid", "losses differ", ended)
    assert [(rank.outcome, rank.reason, rank.extra_passes_failed_reason) for rank in left] == [ok, ok, wrong]
    assert all(rank.step_time_ns for rank in left)
    final = msgspec.json.decode(Path(task.attempt_dir, "rank0.json").read_bytes(), type=RankResult)
    assert (final.outcome, final.extra_passes_failed_reason) == ("invalid", None)


def test_more_steps_are_measured_than_a_loader_holds_ready(tmp_path: Path) -> None:
    case = make_case(data="loader", num_loader_workers=2)
    rank = run(tmp_path, case, min_warmup_steps=1, min_measured_steps=1, max_seconds=0.001)
    assert len(rank.warmup_step_time_ns) >= 4
    assert len(rank.step_time_ns) >= 8


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise Shy", "Shy: its message cannot be shown"),
    ],
)
def test_a_model_that_leaves_in_its_own_way_is_a_crash_with_a_reason(
    tmp_path: Path, statement: str, reason: str
) -> None:
    source = f"""
        class Shy(Exception):
            def __str__(self):
                raise ValueError

        def factory():
            {statement}
        """
    rank = run(tmp_path, make_case(IMAGES, model=f"{write_model(tmp_path, source)}:factory"))
    assert (rank.outcome, rank.reason) == ("crashed", reason)


def test_a_result_that_cannot_be_written_is_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is not the case's fault; the process says so by its exit status."""
    task = make_task(tmp_path, make_case())

    def full_disk(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(attempt, "write_aside", full_disk)
    with pytest.raises(SystemExit) as caught:
        run_attempt(task)
    assert caught.value.code == os.EX_IOERR


def test_a_disk_that_is_full_only_for_a_while_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_refused = 0

    def full_at_first(path: Path, data: bytes) -> None:
        nonlocal num_refused
        if path.name == "rank0.json" and num_refused == 0:
            num_refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_aside(path, data)

    monkeypatch.setattr(attempt, "write_aside", full_at_first)
    rank = run(tmp_path, make_case(), extra_passes=True)
    assert (num_refused, rank.outcome, rank.extra_passes_failed_reason) == (1, "ok", None)
    assert rank.loss_check is not None
