"""The results of several nodes as one, and which of several causes it names."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from benchbox.analyze.energy import joules_per_sample
from benchbox.errors import NodeError
from benchbox.measure.nodes.alike import as_node, refuse_differences
from benchbox.measure.nodes.merge import does_fit, merge
from benchbox.schema import (
    AttemptResult,
    DeviceTelemetry,
    HostTelemetry,
    MeasureSettings,
    NodePlace,
    Outcome,
    Window,
    WorkerTask,
)
from tests.factories import make_attempt, make_case, make_environment, make_rank

CASE = make_case(strategy="ddp", world_size=4)
PLACE = NodePlace(
    node=0, num_nodes=2, num_local_ranks=2, local_address="10.0.0.1", master_address="10.0.0.1", master_port=1
)
TASK = WorkerTask(
    case=CASE,
    measure=MeasureSettings(),
    attempt=1,
    device="cpu",
    extra_passes=False,
    run_dir="",
    attempt_dir="",
    import_dirs=(),
    data_root="",
    place=PLACE,
)


def result(node: int, outcome: Outcome = "ok", reason: str | None = None) -> AttemptResult:
    ranks = tuple(replace(make_rank(), rank=2 * node + n, local_rank=n, node=node) for n in (0, 1))
    made = make_attempt(CASE, 1, outcome=outcome, reason=reason, ranks=ranks)
    return replace(
        made,
        devices=(DeviceTelemetry(uuid=f"GPU-{node}", sample_at_ns=(node,)),),
        host=HostTelemetry(sample_at_ns=(node,)),
        stderr_tail=f"of node {node}",
    )


def test_all_ranks_and_devices_are_in_it_and_say_where_they_were() -> None:
    merged = merge({1: result(1), 0: result(0)}, {})
    assert merged.outcome == "ok"
    assert [(rank.rank, rank.node) for rank in merged.ranks] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert [(device.uuid, device.node) for device in merged.devices] == [("GPU-0", 0), ("GPU-1", 1)]
    assert merged.host is not None
    assert (merged.host.node, merged.host.sample_at_ns) == (0, (0,))
    assert [(host.node, host.sample_at_ns) for host in merged.other_hosts] == [(1, (1,))]


def test_a_remark_on_a_case_that_is_well_names_its_node() -> None:
    merged = merge({0: result(0), 1: result(1, "ok", "telemetry is not whole: x")}, {})
    assert (merged.outcome, merged.reason) == ("ok", "node 1: telemetry is not whole: x")


RAN_OUT: tuple[Outcome, str] = ("oom", "rank 2: MemoryError")
FELL: tuple[Outcome, str] = ("crashed", "rank 1: ValueError: x")
FOLLOWED: tuple[Outcome, str] = ("crashed", "rank 0: another rank ended: Connection closed by peer")
ENDED: tuple[Outcome, str] = ("crashed", "another rank ended on another node")
HUNG: tuple[Outcome, str] = ("timeout", "still running after 10 s")
LOST = {1: "node 1 (10.0.0.2) was silent for 10 s"}


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        (FOLLOWED, RAN_OUT, RAN_OUT),
        (RAN_OUT, FOLLOWED, RAN_OUT),
        (FELL, RAN_OUT, RAN_OUT),
        (FOLLOWED, FELL, FELL),
        (ENDED, FELL, FELL),
        (HUNG, ENDED, ("timeout", "node 0: still running after 10 s")),
        (HUNG, HUNG, HUNG),
        (("ok", None), FELL, FELL),
        (("invalid", "the loss is not finite"), ("invalid", "the loss is not finite"), None),
        (ENDED, FOLLOWED, ("crashed", "node 0: another rank ended on another node")),
    ],
)
def test_the_first_cause_is_named(
    first: tuple[Outcome, str], second: tuple[Outcome, str], cause: tuple[Outcome, str] | None
) -> None:
    merged = merge({0: result(0, *first), 1: result(1, *second)}, {})
    assert (merged.outcome, merged.reason) == (cause or first)


def test_the_printed_end_is_that_of_the_node_to_blame() -> None:
    assert merge({0: result(0, *FOLLOWED), 1: result(1, *RAN_OUT)}, {}).stderr_tail == "of node 1"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (ENDED, ("crashed", LOST[1])),
        (FELL, ("crashed", LOST[1])),  # no route to the host: what a network error says has many forms
        (("ok", None), ("crashed", LOST[1])),
        (("oom", "rank 0: MemoryError"), ("oom", "rank 0: MemoryError")),
    ],
)
def test_a_node_that_is_gone_is_the_cause_unless_a_rank_told_another(
    own: tuple[Outcome, str], expected: tuple[Outcome, str]
) -> None:
    merged = merge({0: result(0, *own)}, LOST)
    assert (merged.outcome, merged.reason) == expected
    assert {rank.node for rank in merged.ranks} == {0}


def test_only_what_a_node_can_say_fits() -> None:
    good = result(1)
    assert does_fit(good, TASK, 1)
    assert does_fit(result(1, "crashed", "x"), TASK, 1)
    assert does_fit(replace(good, outcome="crashed", ranks=()), TASK, 1)
    for bad in (
        replace(good, case_id="another"),
        replace(good, attempt=0),
        replace(good, ranks=good.ranks[:1]),
        replace(good, ranks=good.ranks[:1] * 2),
        replace(good, ranks=result(0).ranks),
        replace(good, ranks=tuple(replace(rank, node=0) for rank in good.ranks)),
    ):
        assert not does_fit(bad, TASK, 1)


# --- clocks ------------------------------------------------------------------------------------------------


def test_energy_is_clipped_by_the_clock_of_each_devices_own_machine() -> None:
    """One second, 100 W on node 0 and 300 W on node 1, whose clock started at another time."""
    attempt = merge({0: result(0), 1: result(1)}, {})
    ranks, devices = [], []
    for node, watts in ((0, 100.0), (1, 300.0)):
        began = 10**9 * (1 + 1000 * node)
        window = Window(start_at_ns=began, end_at_ns=began + 10**9, num_steps=5)
        ranks += [
            replace(r, windows=(window,), step_time_ns=(2 * 10**8,) * 5)
            for r in attempt.ranks[2 * node :][:2]
        ]
        at_ns = tuple(began + n * 10**8 for n in range(11))
        devices.append(
            DeviceTelemetry(uuid=f"GPU-{node}", node=node, sample_at_ns=at_ns, power_w=(watts,) * 11)
        )
    attempt = replace(attempt, ranks=tuple(ranks), devices=tuple(devices))
    assert joules_per_sample([attempt], 8) == (pytest.approx(400 / (5 * 8)), "power-integral")


# --- unlike machines ---------------------------------------------------------------------------------------

OWN = make_environment("cuda")


def test_machines_that_differ_only_in_what_names_a_device_are_alike() -> None:
    device = replace(OWN.devices[0], index=5, uuid="GPU-another", pcie_gen=1)
    other = replace(OWN, devices=(device,), worker_variables={"GLOO_SOCKET_IFNAME": "eth7"})
    refuse_differences(OWN, other, "node 1 (10.0.0.2)")
    node = as_node(other, 1)
    assert (node.node, node.devices, node.worker_variables) == (1, (device,), other.worker_variables)


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (replace(OWN, benchbox="9.9"), "benchbox"),
        (replace(OWN, driver="1.2.3"), "driver"),
        (replace(OWN, device="cpu"), "device"),
        (replace(OWN, devices=()), "number of devices"),
        (replace(OWN, software=replace(OWN.software, torch="1.0")), "software.torch"),
        (replace(OWN, software=replace(OWN.software, nccl="1.0")), "software.nccl"),
        (replace(OWN, devices=(replace(OWN.devices[0], name="Other GPU"),)), r"devices\[0\].name"),
        (replace(OWN, devices=(replace(OWN.devices[0], power_limit_w=1.0),)), r"devices\[0\].power_limit_w"),
        (replace(OWN, host=replace(OWN.host, cpu_model="Other CPU")), "host.cpu_model"),
    ],
)
def test_unlike_machines_are_refused_by_what_differs(other: object, key: str) -> None:
    with pytest.raises(NodeError, match=rf"^node 1 \(10\.0\.0\.2\) is not like node 0: .*`{key}` is "):
        refuse_differences(OWN, other, "node 1 (10.0.0.2)")  # type: ignore[arg-type]
