"""That the contracts in pyproject.toml, which list modules by hand, miss none."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.conftest import SLOWEST

ROOT = Path(__file__).parent.parent


def test_every_module_but_one_is_forbidden_to_open_the_driver() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c.get("forbidden_modules") == ["pynvml"])
    listed = set(contract["source_modules"])
    rooms = {f"benchbox.{path.stem}" for path in (ROOT / "benchbox").iterdir() if path.suffix in (".py", "")}
    measure = (path.relative_to(ROOT) for path in (ROOT / "benchbox" / "measure").rglob("*.py"))
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in measure}
    named = {name for name in rooms | modules if not name.endswith("__")}
    assert listed == named - {"benchbox.measure", "benchbox.measure.nvml"}


def test_the_files_that_the_tests_begin_with_are_there() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(SLOWEST) <= names
