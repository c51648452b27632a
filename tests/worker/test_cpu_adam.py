"""DeepSpeed's Adam for the host where it cannot be compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch import nn

from benchbox.worker.models import UnsupportedCase
from benchbox.worker.strategies.cpu_adam import first_error, host_adam, own_folder


def test_without_a_compiler_it_is_unsupported_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedCase, match=r"DeepSpeedCPUAdam cannot be built: \S") as raised:
        host_adam(nn.Linear(2, 2).parameters(), 1e-3)
    assert "\n" not in str(raised.value)


def test_a_lock_left_by_a_killed_builder_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "cpu_adam").mkdir()
    (tmp_path / "cpu_adam" / "lock").touch()
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: fatal error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(UnsupportedCase, match="DeepSpeedCPUAdam cannot be built"):
        host_adam(nn.Linear(2, 2).parameters(), 1e-3)
    assert not (tmp_path / "cpu_adam" / "lock").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "Error building extension 'cpu_adam': [1/3] c++ …\nIn file a\nx.h:3: fatal error: omp.h: No\n",
            "x.h:3: fatal error: omp.h: No",
        ),
        ("Unable to JIT load the cpu_adam op\n\n", "Unable to JIT load the cpu_adam op"),
        ("", "no reason given"),
    ],
)
def test_the_reason_is_the_compilers_first_error(text: str, line: str) -> None:
    assert first_error(text) == line


def test_each_environment_builds_in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    folders = []
    for prefix, version in (("/a", "2.0"), ("/b", "2.0"), ("/a", "2.1"), ("/a", "2.0")):
        monkeypatch.setattr("sys.prefix", prefix)
        monkeypatch.setattr("torch.__version__", version)
        with own_folder():
            folders.append(os.environ["TORCH_EXTENSIONS_DIR"])
        assert "TORCH_EXTENSIONS_DIR" not in os.environ
    assert len(set(folders)) == 3
    assert folders[0] == folders[3]


def test_a_folder_that_the_user_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/of/the/user")
    with own_folder():
        assert os.environ["TORCH_EXTENSIONS_DIR"] == "/of/the/user"
    assert os.environ["TORCH_EXTENSIONS_DIR"] == "/of/the/user"
