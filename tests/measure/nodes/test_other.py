"""A node that serves: that it runs nothing but its own suite's cases, whatever it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from benchbox.errors import BadInputError, NodeError
from benchbox.measure.nodes.door import Door
from benchbox.measure.nodes.link import Link
from benchbox.measure.nodes.network import free_port
from benchbox.measure.nodes.options import NodeOptions
from benchbox.measure.nodes.other import OtherNode
from benchbox.measure.nodes.site import NodeSite
from benchbox.measure.placement import Placement
from benchbox.plan.suite import load_suite
from benchbox.schema import Case, Suite
from benchbox.schema.nodes import Abort, Goodbye, Ready, Start
from tests.factories import make_case, make_environment
from tests.runs import write_suite

TWO_RANKS = '[workload]\nmodel = "mlp"\nsizes = [16, 8, 4]\n[axes]\nstrategy = ["ddp"]\nworld_size = [1, 2]\n'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OtherNode, Link, Suite]]:
    folder = tmp_path_factory.mktemp("served")
    suite = load_suite(write_suite(folder, TWO_RANKS))
    port = free_port("127.0.0.1")
    options = NodeOptions(2, 0, "127.0.0.1", port, None)
    with (
        Door(options, suite) as door,
        OtherNode(suite, folder, "cpu", options._replace(node=1)) as node,
    ):
        (link,) = door.all_links()
        ready = link.receive(60)
        assert isinstance(ready, Ready)
        assert ready.num_local_ranks == 1
        yield node, link, suite
        link.close()


def case_of(suite: Suite, world_size: int) -> Case:
    return next(case for case in suite.cases if case.world_size == world_size)


def start(case_id: str, attempt: int = 0) -> Start:
    return Start(case_id=case_id, attempt=attempt, master_port=29_500)


def test_a_case_of_its_own_becomes_a_task_with_its_place(served: tuple[OtherNode, Link, Suite]) -> None:
    node, _, suite = served
    task = node._task(start(case_of(suite, 2).case_id))
    assert task.case == case_of(suite, 2)
    assert task.local_ranks == range(1, 2)
    assert task.place is not None
    assert (task.place.master_address, task.place.master_port) == ("127.0.0.1", 29_500)
    assert task.extra_passes


@pytest.mark.parametrize("what", ["of another suite", "a path", "that needs node 0 alone", "one too many"])
def test_a_case_that_is_not_its_to_run_is_refused(served: tuple[OtherNode, Link, Suite], what: str) -> None:
    node, _, suite = served
    told = {
        "of another suite": start(make_case(seed=9).case_id),
        "a path": start("../../bin/sh"),
        "that needs node 0 alone": start(case_of(suite, 1).case_id),
        "one too many": start(case_of(suite, 2).case_id, attempt=1),
    }[what]
    with pytest.raises(NodeError, match="asked for what this node's suite does not have"):
        node._task(told)


def test_what_node_0_says_last_is_how_serving_ends(served: tuple[OtherNode, Link, Suite]) -> None:
    """An abort of nothing is passed over: it may cross the result on its way."""
    node, link, suite = served
    ended: list[BaseException | None] = []

    def serve() -> None:
        try:
            node.serve()
            ended.append(None)
        except NodeError as error:
            ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    link.send(Abort(case_id=case_of(suite, 2).case_id, attempt=0))
    link.send(Goodbye(reason="ended the run: the disk is full"))
    thread.join(30)
    assert str(ended[0]) == (
        "node 0 (127.0.0.1) ended the run: the disk is full; this node's part of the run has ended"
    )


# --- how many ranks ----------------------------------------------------------------------------------------

GPU = make_environment("cuda")


def site(num_local_ranks: int | None, num_nodes: int = 2) -> NodeSite:
    made = NodeSite((), None, "auto", NodeOptions(num_nodes, 0, "h", 1, num_local_ranks))  # type: ignore[arg-type]
    made.address = "127.0.0.1"
    return made


def placed(made: NodeSite, num_gpus: int) -> Placement:
    placement = made._place(Placement(GPU.devices * num_gpus, GPU.software, 8))
    made.placement, made._machine = placement, placement.machine()
    return placement


def test_a_node_has_a_rank_for_each_gpu_unless_the_user_says_fewer() -> None:
    made = site(None)
    assert len(placed(made, 4).devices) == made.num_local_ranks == 4
    made = site(3)
    assert len(placed(made, 4).devices) == made.num_local_ranks == 3
    made = site(None)
    assert placed(made, 0).devices == ()
    assert made.num_local_ranks == 1


@pytest.mark.parametrize(("num_gpus", "what"), [(2, "2 GPUs"), (0, "usable processors")])
def test_more_ranks_than_a_node_can_have_are_refused(num_gpus: int, what: str) -> None:
    with pytest.raises(BadInputError, match=rf"--nproc-per-node: 5000, but node 0 has .*{what}"):
        placed(site(5000), num_gpus)


@pytest.mark.parametrize(
    ("world_size", "num_nodes", "reason"),
    [
        (1, 1, None),
        (3, 1, None),
        (4, 1, None),
        (8, 2, None),
        (6, 1, "world size 6 is no multiple of the 4 ranks that each node has"),
        (12, 3, "world size 12 needs 3 nodes of 4 ranks; this run has 2"),
    ],
)
def test_a_case_takes_whole_nodes_or_a_part_of_node_0(
    world_size: int, num_nodes: int, reason: str | None
) -> None:
    made = site(None)
    placed(made, 4)
    case = make_case(strategy="ddp", world_size=world_size)
    assert made.why_unsupported(case) == reason
    assert made.num_nodes(case) == num_nodes


def test_a_strategy_for_one_device_is_not_spread_over_nodes() -> None:
    made = site(None)
    placed(made, 1)
    assert "trains on one device" in (made.why_unsupported(make_case(world_size=2)) or "")
