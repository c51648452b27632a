"""What the control groups around this process leave it, version 1 and 2.

A limit may stand at any level above the process, so all levels count, and the tightest is the one that holds.
Within a container the path that ``/proc/self/cgroup`` prints may lie outside of what is mounted; levels that
cannot be seen are passed over, down to the root of the mount, which is then the container's own group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT_BYTES = 1 << 60
"""Version 1 prints a number just below 2**63 where there is no limit."""


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The tightest memory limit; ``None`` where there is none."""
    values = [_number(text) for text in _texts(root, "memory", ("memory.max",), ("memory.limit_in_bytes",))]
    limits = [int(value) for value in values if value is not None and 0 < value < _NO_LIMIT_BYTES]
    return min(limits, default=None)


def memory_available_bytes(root: Path = Path("/")) -> list[int]:
    """What each level with a limit still has: the limit less what is used, cached files that can go apart."""
    v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    found = []
    for text in _texts(root, "memory", ("memory.max", "memory.current", "memory.stat"), v1):
        limit, used, *stat = text.split()
        limit_bytes, used_bytes = _number(limit), _number(used)
        if limit_bytes is None or used_bytes is None or not 0 < limit_bytes < _NO_LIMIT_BYTES:
            continue
        cached = dict(zip(stat[::2], stat[1::2], strict=False))
        can_go = _number(cached.get("total_inactive_file", cached.get("inactive_file", "0"))) or 0
        found.append(max(0, int(limit_bytes - used_bytes + can_go)))
    return found


def num_processors(root: Path = Path("/")) -> float | None:
    """The tightest quota of processor time, in processors (1.5 is possible); ``None`` where there is none."""
    quotas = []
    for text in _texts(root, "cpu", ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        quota, period = [_number(part) for part in [*text.split(), "", ""][:2]]
        if quota is not None and period and quota > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _texts(
    root: Path, controller: str, v2_files: tuple[str, ...], v1_files: tuple[str, ...]
) -> Iterator[str]:
    """What the files say at every level that can be seen, joined by a space; a level that lacks one is left
    out."""
    for folder, is_v2 in _mounted_groups(root, controller):
        for level in (folder[0] / folder[1], *(folder[0] / folder[1]).parents):
            if not level.is_relative_to(folder[0]):
                break
            try:
                names = v2_files if is_v2 else v1_files
                yield " ".join((level / name).read_text().strip() for name in names)
            except OSError:
                continue


def _mounted_groups(root: Path, controller: str) -> Iterator[tuple[tuple[Path, str], bool]]:
    """The mounts to look in, each with this process's path below it, and whether it is of version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, path = line.split(":", 2)
        below = path.strip("/")
        if number == "0" and not controllers:
            unified = mount / "unified"
            yield (unified if unified.is_dir() else mount, below), True
        elif controller in controllers.split(","):
            joint = mount / controllers
            yield (joint if joint.is_dir() else mount / controller, below), False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # "max"
