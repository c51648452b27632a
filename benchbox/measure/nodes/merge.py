"""What the nodes say of one attempt becomes one result: the first cause counts, as among ranks."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from benchbox.schema import ANOTHER_RANK_ENDED, AttemptResult, WorkerTask


def does_fit(result: AttemptResult, task: WorkerTask, node: int) -> bool:
    """Whether ``result`` can be what ``node`` says of ``task``."""
    assert task.place is not None
    num_local_ranks = task.place.num_local_ranks
    expected = range(node * num_local_ranks, (node + 1) * num_local_ranks)
    numbers = [rank.rank for rank in result.ranks]
    return (
        (result.case_id, result.attempt) == (task.case.case_id, task.attempt)
        and sorted(set(numbers)) == sorted(numbers)
        and set(numbers) <= set(expected)
        and all(rank.node == node for rank in result.ranks)
        and (result.outcome != "ok" or len(numbers) == num_local_ranks)
    )


def merge(results: Mapping[int, AttemptResult], lost: Mapping[int, str]) -> AttemptResult:
    """One result of all nodes; node 0's own is there whatever happened.

    ``lost`` says of each node that is gone how that was noticed. Times of different machines cannot be
    compared, so of several causes the kind decides: what a rank says of its own memory, losses or abilities
    before a node that is gone, then a timeout, then a crash, last what only follows from another's end.
    """
    own = results[0]
    by_node = sorted(results.items())
    merged = replace(
        own,
        ranks=tuple(sorted((r for _, result in by_node for r in result.ranks), key=lambda r: r.rank)),
        devices=tuple(replace(d, node=node) for node, result in by_node for d in result.devices),
        other_hosts=tuple(
            replace(result.host, node=node) for node, result in by_node if node and result.host is not None
        ),
    )
    failed = [(node, result) for node, result in by_node if result.outcome != "ok"]
    if not failed and not lost:
        reasons = [_named(node, result, alike=False) for node, result in by_node if result.reason]
        return replace(merged, reason="; ".join(filter(None, reasons)) or None)
    node, cause = min(failed, key=lambda pair: _order(pair[1]), default=(0, own))
    if lost and (not failed or _order(cause) > 0):
        return replace(merged, outcome="crashed", reason="; ".join(lost.values()), stderr_tail=None)
    alike = len(failed) > 1 and len({result.reason for _, result in failed}) == 1
    return replace(
        merged,
        outcome=cause.outcome,
        reason=_named(node, cause, alike=alike),
        stderr_tail=cause.stderr_tail,
    )


def _order(result: AttemptResult) -> int:
    if ANOTHER_RANK_ENDED in (result.reason or ""):
        return 3
    return {"timeout": 1, "crashed": 2}.get(result.outcome, 0)


def _named(node: int, result: AttemptResult, *, alike: bool) -> str | None:
    """The reason, with its node where it names no rank and does not hold for all."""
    if result.reason is None or alike or result.reason.startswith("rank "):
        return result.reason
    return f"node {node}: {result.reason}"
