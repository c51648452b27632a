"""Every number of the worked example is what the command prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def check(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "docs/plan_example.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    return done.returncode, done.stderr


def test_the_worked_example_is_what_is_printed() -> None:
    assert check(ROOT) == (0, "")


def test_a_stale_number_is_told(tmp_path: Path) -> None:
    for folder in ("docs/examples", "reports"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "docs/plan_example.py", tmp_path / "docs")
    page = (ROOT / "docs/plan.md").read_text("utf-8")
    changed = page.replace(" configurations\nfastest", "0 configurations\nfastest", 1)
    assert changed != page
    (tmp_path / "docs/plan.md").write_text(changed, "utf-8")
    code, text = check(tmp_path)
    assert code == 1
    assert "python docs/plan_example.py writes it anew" in text
