"""Clipping to the measured windows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchbox.measure.columns import Columns
from benchbox.schema import Window

TIMES = st.lists(st.integers(0, 1000), unique=True).map(sorted)
WINDOWS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 300)).map(
        lambda pair: Window(start_at_ns=pair[0], end_at_ns=pair[0] + pair[1], num_steps=1)
    ),
    max_size=5,
)


@given(TIMES, WINDOWS)
def test_exactly_the_samples_within_a_window_stay_each_once_and_in_order(
    times: list[int], windows: list[Window]
) -> None:
    columns = Columns(("a", "b"), integers={"b"})
    for at_ns in times:
        columns.append(at_ns, (at_ns / 2, at_ns))
    expected = [at for at in times if any(w.start_at_ns <= at <= w.end_at_ns for w in windows)]
    kept, values = columns.within(windows)
    assert list(kept) == expected
    assert values == {
        "a": tuple(at / 2 for at in expected) or None,
        "b": tuple(expected) or None,
    }


def test_a_missing_value_is_none_and_a_missing_column_is_none_altogether() -> None:
    columns = Columns(("sometimes", "never", "later"), integers={"sometimes"})
    for at_ns, row in enumerate([(None, None, None), (7, None, None), (0, None, 2.5)]):
        columns.append(at_ns, row)
    _, values = columns.within([Window(start_at_ns=0, end_at_ns=1, num_steps=1)])
    assert values == {"sometimes": (None, 7), "never": None, "later": None}
    _, values = columns.within([Window(start_at_ns=2, end_at_ns=2, num_steps=1)])
    assert values == {"sometimes": (0,), "never": None, "later": (2.5,)}
    assert (columns.last("sometimes"), columns.last("never")) == (0, None)


@given(st.integers(0, 2**53))
def test_integers_come_back_exactly(value: int) -> None:
    columns = Columns(("bytes",), integers={"bytes"})
    columns.append(0, (value,))
    (kept,) = columns.within([Window(start_at_ns=0, end_at_ns=0, num_steps=1)])[1]["bytes"]
    assert kept == value
    assert isinstance(kept, int)
