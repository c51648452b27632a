"""Limits of this process's memory, and how close it came to them; a control group's are the host's facts."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

# Each limit with the line of /proc/self/status that it bounds: for the address space the kernel keeps a
# high-water mark, for data it tells what there is now.
_BOUNDED = {"RLIMIT_AS": "VmPeak", "RLIMIT_DATA": "VmData"}


def bound_memory(num_bytes: int) -> None:
    """Let allocations beyond ``num_bytes`` of private memory fail, which torch reports, before the kernel has
    to kill somebody. A limit that is there already is not raised.

    Raises:
        MemoryError: this process holds more already. Under such a limit no thread can be started, and the
            libraries that want theirs end the process without a word.
    """
    held = int(_status()["VmData"].split()[0]) * 1024
    if held > num_bytes:
        raise MemoryError(
            f"the limit of {num_bytes >> 20} MiB is below the {held >> 20} MiB that a worker holds "
            "before it builds a model"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def tightest_limit() -> dict[str, Any]:
    """``tightest_limit`` and ``tightest_limit_used_pct`` of the worker's memory; empty without a limit."""
    status = _status()
    shares = []
    for name, line in _BOUNDED.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft > 0 and soft != resource.RLIM_INFINITY and line in status:
            shares.append((100 * int(status[line].split()[0]) * 1024 / soft, name))
    if not shares:
        return {}
    used_pct, name = max(shares)
    return {"tightest_limit": name, "tightest_limit_used_pct": used_pct}


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
