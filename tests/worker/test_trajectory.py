from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from benchbox.schema import Case, LossCheck
from benchbox.worker import trajectory
from benchbox.worker.trajectory import check_losses, digest, plain_fp32, trajectories_agree
from tests.worker.tasks import CPU, IMAGES, SMALL_CNN, make_case, make_task, write_forward, write_model

IN_BF16 = "if torch.is_autocast_enabled('cpu'): "


def check(folder: Path, case: Case, num_steps: int = 3) -> LossCheck:
    task = make_task(folder, case, import_dirs=(str(folder),), num_trajectory_steps=num_steps)
    return check_losses(task, CPU)


def references(folder: Path) -> list[Path]:
    return sorted((folder / "run").glob("fp32-losses-*"))


# --- configurations that compute what fp32 computes --------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"memory_format": "channels_last"},
        {"precision": "bf16", "gradient_checkpointing": True, "memory_format": "channels_last"},
        {"precision": "bf16", "gradient_accumulation_steps": 2},
        {"precision": "bf16", "data": "loader", "num_loader_workers": 0},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_the_same_training_in_another_way_agrees(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = check(tmp_path, make_case(SMALL_CNN, changes))
    assert found.agrees_with_fp32 is True
    assert found.reason is None
    assert len(found.losses) == 3
    assert found.reference_losses is not None
    assert len(found.reference_losses) == 3


def test_bf16_is_not_compared_with_itself(tmp_path: Path) -> None:
    found = check(tmp_path, make_case(SMALL_CNN, precision="bf16"))
    assert found.losses != found.reference_losses


def test_plain_fp32_is_its_own_reference(tmp_path: Path) -> None:
    found = check(tmp_path, make_case(SMALL_CNN))
    assert found.agrees_with_fp32 is True
    assert found.losses == found.reference_losses
    assert references(tmp_path) == []


def test_the_losses_are_those_of_training(tmp_path: Path) -> None:
    """The same samples again and again, so they are learned."""
    losses = check(tmp_path, make_case(learning_rate=0.05), num_steps=6).losses
    assert [loss is not None and loss > 0 for loss in losses] == [True] * 6
    assert list(losses) == sorted(losses, reverse=True)  # type: ignore[type-var]


@pytest.mark.parametrize("dropout", ["Dropout", "Dropout1d", "AlphaDropout"])
def test_dropout_is_off(tmp_path: Path, dropout: str) -> None:
    model = write_forward(tmp_path, "y = self.drop(y)").replace(":Own", ":make")
    path = tmp_path / f"{model.partition(':')[0]}.py"
    path.write_text(
        path.read_text()
        + f"\ndef make():\n    own = Own()\n    own.drop = nn.{dropout}(0.9)\n    return own\n"
    )
    without = check(tmp_path, make_case(IMAGES, model=write_forward(tmp_path, "")))
    assert check(tmp_path, make_case(IMAGES, model=model)).losses == without.losses


ATTENTION = "nn.MultiheadAttention(12, 2, dropout={rate}, batch_first=True)"
RECURRENT = "nn.LSTM(12, 12, num_layers=2, dropout={rate}, batch_first=True)"


@pytest.mark.parametrize("layer", [ATTENTION, RECURRENT], ids=["attention", "recurrent"])
def test_dropout_that_is_no_layer_of_its_own_is_off(tmp_path: Path, layer: str) -> None:
    def losses(rate: float) -> tuple[float | None, ...]:
        call = "x, x, x" if layer is ATTENTION else "x"
        name = write_model(
            tmp_path,
            f"""
            class Own(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = {layer.format(rate=rate)}
                    self.linear = nn.Linear(3 * 8 * 8, 5)

                def forward(self, x):
                    x = x.reshape(-1, 16, 12)
                    return self.linear(self.inner({call})[0].flatten(1))
            """,
        )
        return check(tmp_path, make_case(IMAGES, model=f"{name}:Own")).losses

    assert losses(0.5) == losses(0.0)


# --- configurations that compute something else ------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["y = 2 * y", "y = y.detach() + 0 * y", "y = y + 0.5 * torch.arange(5)"])
def test_a_model_that_computes_something_else_in_bf16_is_found_out(tmp_path: Path, wrong: str) -> None:
    case = make_case(
        IMAGES, model=write_forward(tmp_path, IN_BF16 + wrong), precision="bf16", learning_rate=0.01
    )
    found = check(tmp_path, case)
    assert found.agrees_with_fp32 is False
    assert found.reason is not None
    assert found.reason.startswith("losses differ from fp32 by more than 0.03: ")


def test_a_loss_that_is_no_number_agrees_with_nothing(tmp_path: Path) -> None:
    case = make_case(
        IMAGES, model=write_forward(tmp_path, IN_BF16 + "y = y * float('inf')"), precision="bf16"
    )
    found = check(tmp_path, case)
    assert found.losses == (None, None, None)
    assert found.agrees_with_fp32 is False
    assert found.reason is not None
    assert "nan nan nan against" in found.reason


def test_a_model_whose_fp32_is_no_number_is_found_out_too(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "y = y * float('nan')")
    assert check(tmp_path, make_case(IMAGES, model=model)).agrees_with_fp32 is False


# --- the reference -----------------------------------------------------------------------------------------


def test_the_reference_is_computed_once_for_all_cases_that_share_it(tmp_path: Path) -> None:
    first = check(tmp_path, make_case(precision="bf16"))
    (path,) = references(tmp_path)
    shifted = [loss + 1 for loss in first.reference_losses or () if loss is not None]
    path.write_bytes(msgspec.json.encode(shifted))
    second = check(tmp_path, make_case(precision="bf16", gradient_checkpointing=True))
    assert references(tmp_path) == [path]
    assert second.reference_losses == tuple(shifted)  # read, not computed
    assert second.agrees_with_fp32 is False


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"per_device_batch_size": 8}, {"learning_rate": 0.1}, {"hidden_size": 9}]
)
def test_cases_of_another_training_do_not_share_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    check(tmp_path, make_case(precision="bf16"))
    check(tmp_path, make_case(changes, precision="bf16"))
    assert len(references(tmp_path)) == 2


def test_the_plain_case_differs_only_in_how_it_is_computed() -> None:
    case = make_case(
        SMALL_CNN,
        precision="bf16",
        memory_format="channels_last",
        compile=True,
        gradient_checkpointing=True,
        gradient_accumulation_steps=2,
        seed=3,
    )
    assert plain_fp32(case) == msgspec.structs.replace(
        make_case(SMALL_CNN, gradient_accumulation_steps=2, seed=3), case_id=case.case_id
    )


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_reference_that_does_not_fit_leaves_the_question_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    train = trajectory.train_losses

    def only_bf16_fits(case: Case, *rest: Any, **more: Any) -> list[float | None]:
        if case.precision == "fp32":
            raise error
        return train(case, *rest, **more)

    monkeypatch.setattr(trajectory, "train_losses", only_bf16_fits)
    found = check(tmp_path, make_case(precision="bf16"))
    assert found.agrees_with_fp32 is None
    assert found.reference_losses is None
    assert found.reason == "the fp32 reference does not fit in the device's memory"
    assert references(tmp_path) == []


def test_a_reference_that_fails_in_another_way_is_an_error(tmp_path: Path) -> None:
    model = write_forward(tmp_path, "if not torch.is_autocast_enabled('cpu'): raise RuntimeError('boom')")
    with pytest.raises(RuntimeError, match="boom"):
        check(tmp_path, make_case(IMAGES, model=model, precision="bf16"))


# --- comparing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "reference", "agree"),
    [
        ([1.0, 2.0], [1.009, 1.985], True),
        ([1.0, 2.0], [1.0, 2.03], False),
        ([1.0], [1.0, 2.0], False),
        ([None], [1.0], False),
        ([1.0], [None], False),
        ([None], [None], False),
        ([0.0], [1e-6], True),  # near zero only the size of the difference counts
        ([1e-4], [0.0], False),
        ([], [], True),
    ],
)
def test_trajectories_agree_when_every_loss_does(
    losses: list[float | None], reference: list[float | None], agree: bool
) -> None:
    assert trajectories_agree(losses, reference, 0.01) is agree


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert digest([2.302585, 1.5, None]) == "d01b5b47ae710cf3"


def test_a_digest_sees_five_digits() -> None:
    assert digest([2.3025851]) == digest([2.3025899])
    assert digest([2.3025]) != digest([2.3026])
    assert digest([1.0, 2.0]) != digest([2.0, 1.0])
    assert digest([None]) != digest([0.0])


def test_a_digest_is_equal_run_after_run(tmp_path: Path) -> None:
    first, second = (check(tmp_path, make_case(SMALL_CNN, precision="bf16")) for _ in range(2))
    assert first.digest == second.digest == digest(list(first.losses))
