from __future__ import annotations

import pytest

from benchbox.worker.communication import sent_per_step
from benchbox.worker.engine import Collective
from benchbox.worker.ranks import ALONE


def test_a_group_of_one_agrees_with_itself_without_a_process_group() -> None:
    assert ALONE.agree(7) == 7
    assert ALONE.agree_on("b", ("a", "b")) == "b"
    assert ALONE.agree_on(None, ("a", "b")) is None
    assert ALONE.mean([1.5, 2.0]) == [1.5, 2.0]
    assert ALONE.tell({"any": "thing"}) == {"any": "thing"}
    ALONE.wait()


@pytest.mark.parametrize(
    ("collectives", "world_size", "num_bytes"),
    [
        ((Collective("all-reduce", "gradients", 800),), 2, 800),  # 2 (W - 1) / W
        ((Collective("all-reduce", "gradients", 800),), 8, 1400),
        ((Collective("all-gather", "parameters", 800, 3),), 4, 1800),
        (
            (
                Collective("reduce-scatter", "gradients", 800, 2),
                Collective("all-gather", "parameters", 400, 1),
            ),
            4,
            1500,
        ),
        ((Collective("all-reduce", "gradients", 800),), 1, 0),
    ],
)
def test_a_ring_sends_all_but_ones_own_part(
    collectives: tuple[Collective, ...], world_size: int, num_bytes: int
) -> None:
    assert sent_per_step(collectives, world_size)[0] == num_bytes


def test_the_formula_is_in_words() -> None:
    collectives = Collective("reduce-scatter", "gradients", 8, 2), Collective("all-gather", "it", 4)
    assert sent_per_step(collectives, 2)[1] == (
        "(W - 1) / W × (2 × 8 bytes of gradients (reduce-scatter) + 1 × 4 bytes of it (all-gather)), W = 2"
    )
