"""Which of several machines this one is, by the user's word and by Slurm's."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbox.errors import BadInputError
from benchbox.measure.nodes.options import NodeOptions, node_options
from benchbox.measure.nodes.slurm import first_host
from tests.runs import benchbox, write_suite

SLURM = {
    "SLURM_NNODES": "3",
    "SLURM_NODEID": "2",
    "SLURM_JOB_NODELIST": "n[01-02,7]",
    "SLURM_JOB_ID": "4711",
    "SLURM_LOCALID": "0",
}


def test_what_the_user_says_is_taken() -> None:
    assert node_options(2, 1, "10.0.0.1:29400", 8, {}) == NodeOptions(2, 1, "10.0.0.1", 29400, 8)
    assert node_options(2, 1, "[fd00::1]:29400", None, {}) == NodeOptions(2, 1, "fd00::1", 29400, None)


@pytest.mark.parametrize("num_nodes", [None, 1])
def test_one_machine_is_no_run_on_several(num_nodes: int | None) -> None:
    assert node_options(num_nodes, None, None, None, {}) is None


BAD: dict[str, tuple[int | None, int | None, str | None, int | None]] = {
    "--nnodes 2: say with --node-rank": (2, None, "h:1", None),
    "--nnodes 2: say with --rdzv-endpoint": (2, 0, None, None),
    "--nnodes: 0 is not between": (0, 0, "h:1", None),
    "--nnodes: 5000 is not between": (5000, 0, "h:1", None),
    "--node-rank: 2 is not between 0 and 1": (2, 2, "h:1", None),
    "--node-rank: -1 is not": (2, -1, "h:1", None),
    "--nproc-per-node: 0 is not": (2, 0, "h:1", 0),
    "--node-rank: goes with --nnodes": (None, 0, None, None),
    "--rdzv-endpoint: goes with --nnodes": (1, None, "h:1", None),
    "--nproc-per-node: goes with --nnodes": (None, None, None, 2),
}


@pytest.mark.parametrize("message", BAD)
def test_what_makes_no_sense_is_refused_by_name(message: str) -> None:
    with pytest.raises(BadInputError, match="^" + message):
        node_options(*BAD[message], {})


@pytest.mark.parametrize("endpoint", ["h", ":1", "h:", "h:0", "h:65536", "h:٣", "h:1e3", "h:+1", "h:1\n"])
def test_an_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    with pytest.raises(BadInputError, match="is not HOST:PORT"):
        node_options(2, 0, endpoint, None, {})


def test_slurm_fills_in_what_the_user_leaves_out() -> None:
    assert node_options(None, None, None, None, SLURM) == NodeOptions(3, 2, "n01", 14711, None)
    assert node_options(3, 1, None, 4, SLURM) == NodeOptions(3, 1, "n01", 14711, 4)
    assert node_options(None, None, "10.0.0.9:5", None, SLURM) == NodeOptions(3, 2, "10.0.0.9", 5, None)


def test_what_the_user_says_wins_over_slurm() -> None:
    assert node_options(1, None, None, None, SLURM) is None
    assert node_options(2, 0, "h:1", None, SLURM) == NodeOptions(2, 0, "h", 1, None)
    with pytest.raises(BadInputError, match="--node-rank"):  # Slurm's number is one of three, not of two
        node_options(2, None, "h:1", None, SLURM)


def test_a_steps_own_variables_come_before_the_jobs() -> None:
    step = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "n[02,7]", "SLURM_NODEID": "1"}
    assert node_options(None, None, None, None, SLURM | step) == NodeOptions(2, 1, "n02", 14711, None)
    assert node_options(None, None, None, None, SLURM | {"SLURM_STEP_NUM_NODES": "1"}) is None


def test_two_jobs_in_a_row_get_two_ports_below_those_of_the_kernel() -> None:
    ports = [
        options.port
        for job in (0, 1, 19_999, 20_000, 9_999_999)
        if (options := node_options(None, None, None, None, SLURM | {"SLURM_JOB_ID": str(job)})) is not None
    ]
    assert ports == [10_000, 10_001, 29_999, 10_000, 29_999]


@pytest.mark.parametrize(
    "several",
    [
        {"SLURM_LOCALID": "1"},
        {"SLURM_NTASKS_PER_NODE": "4"},
        {"SLURM_STEP_TASKS_PER_NODE": "2(x3)"},
        {"SLURM_STEP_TASKS_PER_NODE": "1(x2),2"},
    ],
)
def test_more_than_one_task_on_a_node_is_refused(several: dict[str, str]) -> None:
    with pytest.raises(BadInputError, match="--ntasks-per-node=1"):
        node_options(None, None, None, None, SLURM | several)


def test_a_step_with_one_task_each_is_well_whatever_the_job_was_asked_for() -> None:
    step = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_STEP_TASKS_PER_NODE": "1(x3)"}
    assert node_options(None, None, None, None, SLURM | step) is not None


@pytest.mark.parametrize("name", ["SLURM_NNODES", "SLURM_NODEID", "SLURM_JOB_ID", "SLURM_LOCALID"])
def test_a_variable_of_slurms_that_is_no_number_is_named(name: str) -> None:
    with pytest.raises(BadInputError, match=f"{name}: 'two' is no number"):
        node_options(None, None, None, None, SLURM | {name: "two"})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[01-04,7]", "n01"),
        ("n[7,01-04],login", "n7"),
        ("n[003-104]-ib", "n003-ib"),
        ("rack[1-2]n[3-4]", "rack1n3"),
        ("gpu-a.cluster.example,gpu-b", "gpu-a.cluster.example"),
        ("[4-5]", "4"),
    ],
)
def test_the_first_host_of_slurms_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize("nodes", ["", ",n1", "n[", "n[]", "n[a]", "n[1-]", "n]1", "n 1", "n;reboot", "-n1"])
def test_a_list_that_is_none_is_refused(nodes: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        first_host(nodes)
    if nodes:
        with pytest.raises(BadInputError, match=r"SLURM_JOB_NODELIST: .* is no list of hosts"):
            node_options(None, None, None, None, SLURM | {"SLURM_JOB_NODELIST": nodes})


def test_the_command_line_refuses_in_one_line_and_writes_nothing(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    done = benchbox("run", path, "--out", tmp_path / "out", "--nnodes", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "benchbox: --nnodes 2: say with --node-rank which of them this machine is\n"
    assert not (tmp_path / "out").exists()
