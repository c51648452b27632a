"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.nvml_stand_in import StandIn, compile_library
from tests.runs import FinishedRun

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")


SLOWEST = (
    "test_strategies.py",
    "test_two_hosts.py",
    "test_docs_lines.py",
    "test_injected.py",
    "test_pytest_plugin.py",
    "test_docs.py",
    "test_outcomes.py",
    "test_versus.py",
    "test_cli.py",
    "test_resume.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them at the end."""
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(SLOWEST)))


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a present-day driver's library."""
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the library of a driver that lacks the newer functions."""
    return compile_library(tmp_path_factory.mktemp("old_nvml"), "-DOLD_DRIVER")


@pytest.fixture
def nvml_stand_in(nvml_library: Path, tmp_path: Path) -> StandIn:
    """A driver with one device; ``set`` changes what it answers."""
    return StandIn(nvml_library, tmp_path / "nvml.txt")


@pytest.fixture
def old_nvml_stand_in(old_nvml_library: Path, tmp_path: Path) -> StandIn:
    """An old driver with one device."""
    return StandIn(old_nvml_library, tmp_path / "old_nvml.txt")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run of two cases, two repetitions each, through the command line."""
    return FinishedRun(tmp_path_factory.mktemp("finished"))
