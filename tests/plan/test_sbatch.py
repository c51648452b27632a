"""The batch file for Slurm: that a shell reads it as it is meant, whatever the values hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchbox.errors import BadInputError
from benchbox.plan.sbatch import Job, batch_file
from benchbox.plan.suite import load_suite
from benchbox.schema import Suite
from tests.factories import make_case, make_suite
from tests.runs import benchbox, write_suite

NOTHING = Job(None, None, None, None, None, None)
SUITE = make_suite([make_case(), make_case(strategy="ddp", world_size=16)])

SRUN = f"""#!{sys.executable}
import json, os, sys
json.dump(sys.argv[1:], open(os.environ["TOLD"], "w"))
"""


def run_as_slurm_would(text: str, folder: Path) -> list[str]:
    """Run the file with a stand-in for ``srun`` that only notes how it was called."""
    programs = folder / "programs"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    told = folder / "told.json"
    subprocess.run(
        ["bash", "-s"],
        input=text,
        text=True,
        check=True,
        cwd=folder,
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TOLD": str(told),
            "SLURM_CPUS_ON_NODE": "96",
            "SLURM_JOB_ID": "4711",
        },
    )
    called: list[str] = json.loads(told.read_text())
    return called


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


def test_it_asks_for_whole_machines_and_starts_one_task_on_each(tmp_path: Path) -> None:
    text = batch_file(SUITE, "zero", Job(2, 8, "1-02:00:00", "gpu", "lab", None))
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    assert directives(text) == [
        f"--job-name=benchbox-{SUITE.name}",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=8",
        "--time=1-02:00:00",
        "--partition=gpu",
        "--account=lab",
        "--mem=0",
        "--exclusive",
    ]
    assert run_as_slurm_would(text, tmp_path) == [
        "--ntasks-per-node=1",
        "--cpus-per-task=96",
        "--kill-on-bad-exit=0",
        "--wait=0",
        *("benchbox", "run", "--out", f"bench-out/{SUITE.name}-4711", "--", "zero"),
    ]


def test_without_a_number_of_nodes_it_asks_for_what_the_largest_case_needs() -> None:
    assert "--nodes=2" in directives(batch_file(SUITE, "zero", NOTHING._replace(gpus_per_node=8)))
    assert "--nodes=3" in directives(batch_file(SUITE, "zero", NOTHING._replace(gpus_per_node=7)))
    assert "--nodes=16" in directives(batch_file(SUITE, "zero", NOTHING))


HOSTILE = "$(touch harm) `touch harm`; touch harm 'x\" \\ #SBATCH --x"


def test_no_value_becomes_a_word_of_the_shell(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, name="a b; touch harm"))
    job = Job(1, None, None, HOSTILE, HOSTILE, HOSTILE)
    called = run_as_slurm_would(batch_file(suite, HOSTILE, job), tmp_path)
    assert called[-3:] == [HOSTILE, "--", HOSTILE]
    assert called[:4] == ["--ntasks-per-node=1", "--cpus-per-task=96", "--kill-on-bad-exit=0", "--wait=0"]
    assert not (tmp_path / "harm").exists()


def test_a_suites_own_name_is_no_word_of_the_shell_either(tmp_path: Path) -> None:
    suite = load_suite(write_suite(tmp_path, name="$(touch harm)"))
    called = run_as_slurm_would(batch_file(suite, "-x.toml", NOTHING), tmp_path)
    assert called[-3:] == ["bench-out/$(touch harm)-4711", "--", "-x.toml"]
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("job", "argument", "message"),
    [
        (NOTHING._replace(partition="a\n#SBATCH --x"), "zero", "--partition: .* holds a character"),
        (NOTHING._replace(account="a\x1b[2J"), "zero", "--account: .* holds a character"),
        (NOTHING._replace(out="a\rb"), "zero", "--out: .* holds a character"),
        (NOTHING, "a\nb.toml", "SUITE: .* holds a character"),
        (NOTHING._replace(out=""), "zero", "--out: is empty; "),
        (NOTHING._replace(partition=" "), "zero", "--partition: is empty; "),
        (NOTHING._replace(time="tomorrow"), "zero", "--time: 'tomorrow' is no time"),
        (NOTHING._replace(time="1:00\n"), "zero", "--time: .* is no time"),
    ],
)
def test_what_a_line_cannot_hold_is_refused(job: Job, argument: str, message: str) -> None:
    with pytest.raises(BadInputError, match=f"^{message}"):
        batch_file(SUITE, argument, job)


def test_an_empty_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = benchbox("slurm", write_suite(tmp_path), "--out", "", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("--out: is empty; name something, or leave it out")


def test_the_command_prints_the_file(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    done = benchbox("slurm", path, "--nodes", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    suite: Suite = load_suite(path)
    assert done.stdout == batch_file(suite, str(path), NOTHING._replace(num_nodes=2))
