"""Runs on two hosts of this machine: one report, resumed, one node's trouble, and a cable that is cut."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchbox.measure.order import rounds
from benchbox.plan.suite import load_suite
from benchbox.report.files import read_report
from benchbox.schema import Report
from tests.measure.nodes.hosts import Hosts, skip_without_hosts, two_hosts
from tests.runs import (
    MARK,
    all_end,
    copy_user_models,
    journal_attempts,
    marked_processes,
    wait_until,
    write_suite,
)
from tests.user_models import NUM_CLASSES, NUM_INPUTS

pytestmark = pytest.mark.timeout(1500)

MLP = 'model = "mlp"\nsizes = [16, 8, 4]\n'
TWO_RANKS = 'strategy = "ddp"\nworld_size = 2\n'


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    skip_without_hosts()
    with two_hosts() as made:
        yield made


class Node:
    """One node's command."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        self.code: int | None = None

    def end(self) -> None:
        out, err = self.process.communicate(timeout=600)
        self.printed, self.code = out + err, self.process.returncode


@contextlib.contextmanager
def run_on(hosts: Hosts, suite: Path, *arguments: str, mark: str) -> Iterator[tuple[Node, Node]]:
    """The same command on both; whatever happens, both have ended afterwards."""
    several = ("--nnodes", "2", "--rdzv-endpoint", f"{hosts.addresses[0]}:29400", "--device", "cpu")
    first, second = (
        Node(
            hosts.start(
                number,
                *("run", suite, "--out", suite.parent / "out", *several, "--node-rank", str(number)),
                *arguments,
                cwd=suite.parent,
                **{MARK: mark},
            )
        )
        for number in (0, 1)
    )
    try:
        yield first, second
    finally:
        for node in (first, second):
            if node.code is None:
                node.process.kill()
                node.process.wait()


def is_training(folder: Path) -> bool:
    """Whether rank 0 has begun to step in an attempt of several ranks that has not ended."""
    for path in folder.glob("out/.benchbox-work-*/*/progress.json"):
        with contextlib.suppress(OSError, ValueError):
            if json.loads((path.parent / "case.json").read_text())["case"]["world_size"] > 1:
                return True
    return False


# --- a run, ended early and resumed ------------------------------------------------------------------------


class ResumedRun:
    """A suite with one case that is well and two that are not, interrupted while the good one, which comes
    last, is training."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        copy_user_models(folder)
        trouble = (
            f'[[include]]\nmodel = "zoo.models:rank_1_has_no_memory"\n'
            f"input_shape = [{NUM_INPUTS}]\nnum_classes = {NUM_CLASSES}\n{TWO_RANKS}"
        )
        text = f'[workload]\n{MLP}[axes]\nstrategy = ["ddp"]\nworld_size = [2, 3]\n{trouble}'
        # Long enough to be interrupted while it trains, also where this test seldom gets a processor.
        suite = well_case_last(write_suite(folder, text, telemetry_hz=10, min_measured_steps=1000))
        mark = uuid.uuid4().hex
        with run_on(hosts, suite, mark=mark) as (self.first, self.second):
            out = folder / "out"
            assert wait_until(lambda: len(journal_attempts(out)) == 2 and is_training(folder), 200)
            self.first.process.send_signal(signal.SIGINT)
            self.first.end()
            self.second.end()
        self.left_over = marked_processes(mark)
        self.before = journal_attempts(folder / "out")
        with run_on(hosts, suite, "--resume", mark=mark) as (self.third, self.fourth):
            self.third.end()
            self.fourth.end()
        self.report: Report = read_report(folder / "out" / "report.json")
        self.markdown = (folder / "out" / "report.md").read_text()


def well_case_last(path: Path) -> Path:
    """Give the suite a seed by which ``mlp`` on two ranks comes last."""
    text = path.read_text()
    for seed in range(100):
        path.write_text(text.replace("[workload]\n", f"[workload]\nseed = {seed}\n"))
        ((*_, last),) = rounds(load_suite(path))
        if (last.model, last.world_size) == ("mlp", 2):
            return path
    raise AssertionError("no seed does")


@pytest.fixture(scope="module")
def resumed(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> ResumedRun:
    return ResumedRun(hosts, tmp_path_factory.mktemp("two-hosts"))


def test_ctrl_c_on_node_0_ends_both(resumed: ResumedRun) -> None:
    assert resumed.first.code == 130, resumed.first.printed
    assert resumed.second.code == 2, resumed.second.printed
    assert (
        "node 0 (10.71.0.1) was interrupted; this node's part of the run has ended" in resumed.second.printed
    )
    assert resumed.left_over == []


def test_node_0_writes_one_report_of_both(resumed: ResumedRun) -> None:
    assert (resumed.third.code, resumed.fourth.code) == (0, 0), resumed.third.printed + resumed.fourth.printed
    report = resumed.report
    assert report.complete
    by_size = {result.case.world_size: result for result in report.cases if result.case.model == "mlp"}
    (attempt,) = by_size[2].attempts
    assert [(rank.rank, rank.local_rank, rank.node) for rank in attempt.ranks] == [(0, 0, 0), (1, 0, 1)]
    assert len({len(rank.step_time_ns) for rank in attempt.ranks}) == 1
    assert attempt.host is not None
    assert [host.node for host in attempt.other_hosts] == [1]
    assert len(attempt.other_hosts[0].sample_at_ns) > 0
    assert by_size[2].summary is not None
    assert by_size[2].summary.communication_share is not None
    assert by_size[3].outcome == "unsupported"
    assert by_size[3].reason == "world size 3 needs 3 nodes of 1 ranks; this run has 2"


def test_the_nodes_meet_on_the_cable_and_not_on_lo(resumed: ResumedRun) -> None:
    environment = resumed.report.environment
    assert [node.node for node in environment.nodes] == [1]
    for variables in (environment.worker_variables, environment.nodes[0].worker_variables):
        assert variables["GLOO_SOCKET_IFNAME"] == "cable"
    assert "node 1 worker: GLOO" in resumed.markdown


def test_trouble_on_one_node_is_the_cases(resumed: ResumedRun) -> None:
    (result,) = (result for result in resumed.report.cases if result.case.model != "mlp")
    assert (result.outcome, result.reason) == ("oom", "rank 1: MemoryError")
    assert "in trouble" in (result.attempts[0].stderr_tail or "")


def test_what_was_finished_before_is_not_run_again(resumed: ResumedRun) -> None:
    assert sorted(attempt.outcome for attempt in resumed.before) == ["oom", "unsupported"]
    attempts = [attempt for result in resumed.report.cases for attempt in result.attempts]
    assert all(attempt in attempts for attempt in resumed.before)


# --- a cut cable -------------------------------------------------------------------------------------------


class CutRun:
    """The cable is cut while the first of two cases trains on both hosts; a third needs node 0 alone."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        text = f"[workload]\n{MLP}" + "".join(
            f"[[include]]\n{MLP}per_device_batch_size = {size}\n{TWO_RANKS}" for size in (4, 8)
        )
        suite = write_suite(folder, text, max_seconds=4, ci_target_pct=1e-9)
        mark = uuid.uuid4().hex
        try:
            with run_on(hosts, suite, mark=mark) as (self.first, self.second):
                assert wait_until(lambda: is_training(folder) or self.first.process.poll() is not None, 200)
                hosts.cut()
                self.second.end()
                self.all_gone_there = all_end(marked_processes_in(hosts.names[1], mark))
                self.first.end()
            self.all_gone = marked_processes(mark) == []
        finally:
            hosts.mend()
        self.report = read_report(folder / "out" / "report.json")
        self.num_in_journal = len(journal_attempts(folder / "out"))


def marked_processes_in(namespace: str, mark: str) -> list[int]:
    """Those of the marked processes that are in a network namespace."""
    inside = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True)
    return [pid for pid in marked_processes(mark) if str(pid) in inside.stdout.split()]


@pytest.fixture(scope="module")
def cut(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> CutRun:
    return CutRun(hosts, tmp_path_factory.mktemp("cut"))


def test_the_case_ends_typed_and_names_the_node_and_its_silence(cut: CutRun) -> None:
    crashed = [result for result in cut.report.cases if result.outcome == "crashed"]
    assert len(crashed) == 1
    assert crashed[0].case.world_size == 2
    assert (crashed[0].reason or "").startswith("node 1 (10.71.0.2) was silent for 1")


def test_what_needs_node_0_alone_goes_on_and_what_needs_the_other_is_left(cut: CutRun) -> None:
    by_outcome = {result.outcome: result.case for result in cut.report.cases}
    assert by_outcome["ok"].world_size == 1
    assert by_outcome[None].world_size == 2
    assert not cut.report.complete
    assert cut.num_in_journal == 2


def test_both_ends_say_what_happened_in_one_line(cut: CutRun) -> None:
    assert cut.first.code == 1, cut.first.printed
    line = "benchbox: node 1 (10.71.0.2) was silent for 1"
    assert [text.startswith(line) for text in cut.first.printed.splitlines() if "benchbox:" in text] == [True]
    assert "what needs that node was left; go on with --resume" in cut.first.printed
    assert cut.second.code == 2, cut.second.printed
    lines = cut.second.printed.splitlines()
    assert len(lines) == 2
    assert lines[0] == "node 1 of 2 works for node 0 (10.71.0.1)"
    assert lines[1].startswith("benchbox: node 0 (10.71.0.1) was silent for 1")


def test_no_process_is_left_on_either_host(cut: CutRun) -> None:
    assert cut.all_gone_there
    assert cut.all_gone
