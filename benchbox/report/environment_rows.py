"""The environment of a report as rows of what and value."""

from __future__ import annotations

from collections.abc import Sequence

from benchbox.report.text import memory
from benchbox.schema import NodeEnvironment, Record, Report

_UNITS = {"_w": "W", "_mhz": "MHz"}


def environment_rows(report: Report) -> list[tuple[str, str]]:
    """Every known fact. Text from the report is neither cleaned nor escaped."""
    environment, profile = report.environment, report.hardware_profile
    rows = [("benchbox", environment.benchbox), ("trained on", environment.device)]
    if profile is not None:
        rows.append(("hardware profile", f"{profile.name} ({profile.confidence} confidence)"))
    if environment.driver is not None:
        rows.append(("driver", environment.driver))
    for device in environment.devices:
        rows += _rows(device, f"device {device.index}", skip=("index",))
    rows += _rows(environment.host, "host")
    rows += _rows(environment.software, "software", skip=("devices",))
    rows.append(("host allocator", environment.host_allocator))
    rows += [(f"worker: {name}", value) for name, value in sorted(environment.worker_variables.items())]
    for node in environment.nodes:
        rows += _node_rows(node)
    return rows


def _node_rows(node: NodeEnvironment) -> list[tuple[str, str]]:
    """Its software is node 0's, or the run would have been refused."""
    subject = f"node {node.node}"
    rows = _rows(node.host, f"{subject} host")
    for device in node.devices:
        rows += _rows(device, f"{subject} device {device.index}", skip=("index",))
    variables = sorted(node.worker_variables.items())
    return rows + [(f"{subject} worker: {name}", value) for name, value in variables]


def _rows(record: Record, subject: str, skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    return [
        _row(name, getattr(record, name), subject)
        for name in record.__struct_fields__
        if name not in skip and getattr(record, name) is not None
    ]


def _row(name: str, value: object, subject: str) -> tuple[str, str]:
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int) and name.endswith("_bytes"):
        name, text = name.removesuffix("_bytes"), memory(value)
    elif isinstance(value, float):
        text = f"{value:g}"
        for suffix, unit in _UNITS.items():
            if name.endswith(suffix):
                name, text = name.removesuffix(suffix), f"{value:g} {unit}"
    else:
        text = str(value)
    return f"{subject}: {name.replace('_', ' ')}", text
