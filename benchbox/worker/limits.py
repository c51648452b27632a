"""How close this process came to the limits that were set for it; a control group's are the host's facts."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

# Each limit with the line of /proc/self/status that it bounds: for the address space the kernel keeps a
# high-water mark, for data it tells what there is now.
_BOUNDED = {"RLIMIT_AS": "VmPeak", "RLIMIT_DATA": "VmData"}


def tightest_limit() -> dict[str, Any]:
    """``tightest_limit`` and ``tightest_limit_used_pct`` of the worker's memory; empty without a limit."""
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    shares = []
    for name, line in _BOUNDED.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft > 0 and soft != resource.RLIM_INFINITY and line in status:
            shares.append((100 * int(status[line].split()[0]) * 1024 / soft, name))
    if not shares:
        return {}
    used_pct, name = max(shares)
    return {"tightest_limit": name, "tightest_limit_used_pct": used_pct}
