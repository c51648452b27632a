"""What the shell offers after a tab."""

from __future__ import annotations

from pathlib import Path


def complete_suite(incomplete: str) -> list[str]:
    """Shipped suites by name, and the TOML files and folders that begin so."""
    from benchbox.plan.shipped import shipped_dir

    shipped = sorted(path.stem for path in shipped_dir("suites").glob("*.toml"))
    folder, _, beginning = incomplete.rpartition("/")
    try:
        beside = sorted(Path(folder or ("/" if incomplete.startswith("/") else ".")).iterdir())
    except OSError:  # no such folder, or one that may not be read
        beside = []
    prefix = f"{folder}/" if "/" in incomplete else ""
    paths = [
        f"{prefix}{path.name}{'/' if path.is_dir() else ''}"
        for path in beside
        if path.name.startswith(beginning)
        and (path.suffix == ".toml" or path.is_dir())
        and (beginning or not path.name.startswith("."))
    ]
    return [name for name in shipped if name.startswith(incomplete)] + paths
