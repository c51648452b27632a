"""An installed wheel brings suites and profiles along, so `benchbox run quick` works anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("benchbox-*.whl"))


def test_the_wheel_holds_every_suite_and_profile(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("suites", "hw_profiles"):
        shipped = {f"benchbox/_shipped/{folder}/{path.name}" for path in (ROOT / folder).glob("*.toml")}
        assert shipped
        assert shipped <= names


def test_the_wheel_holds_what_a_page_is_made_of(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "benchbox/report/html/templates"
    assert {f"benchbox/report/html/templates/{path.name}" for path in folder.iterdir()} <= names


def test_the_unpacked_wheel_finds_its_own_suites_anywhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import benchbox; from benchbox.plan.hardware import load_profiles\n"
        "from benchbox.plan.suite import find_suite, load_suite\n"
        "print(benchbox.__file__); print(find_suite('quick'))\n"
        "print(len(load_suite(find_suite('quick')).cases))\n"
        "print(len(load_profiles(())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    package, suite, num_cases, num_profiles = done.stdout.splitlines()
    assert package.startswith(str(site))
    assert suite == str(site / "benchbox/_shipped/suites/quick.toml")
    assert int(num_cases) > 5
    assert int(num_profiles) == len(list((ROOT / "hw_profiles").glob("*.toml")))
