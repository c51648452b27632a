"""Whether the machines of a run are alike: a mean over unlike machines tells nothing of either."""

from __future__ import annotations

from typing import Any

import msgspec

from benchbox.errors import NodeError
from benchbox.schema import Environment, NodeEnvironment

_OWN_TO_A_DEVICE = frozenset({"index", "uuid", "pcie_gen", "pcie_width"})
"""An idle link may have been clocked down when the driver was asked."""
_COMPARED_OF_THE_HOST = ("cpu_model", "num_physical_cores", "num_usable_processors")
_MAX_NAMED = 3


def refuse_differences(own: Environment, other: Environment, name: str) -> None:
    """Raise where the node called ``name`` differs from node 0 in what decides how fast it trains.

    Raises:
        NodeError: with up to three of the differences.
    """
    expected, found = _compared(own), _compared(other)
    keys = dict.fromkeys([*expected, *found])
    differences = [
        f"`{key}` is {found.get(key)!r} there and {expected.get(key)!r} on node 0"
        for key in keys
        if found.get(key) != expected.get(key)
    ]
    if differences:
        more = len(differences) - _MAX_NAMED
        named = "; ".join(differences[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise NodeError(f"{name} is not like node 0: {named}")


def as_node(environment: Environment, node: int) -> NodeEnvironment:
    """What node 0's environment does not say of another node."""
    return NodeEnvironment(
        node=node,
        host=environment.host,
        software=environment.software,
        devices=environment.devices,
        worker_variables=environment.worker_variables,
        telemetry_unavailable_reason=environment.telemetry_unavailable_reason,
    )


def _compared(environment: Environment) -> dict[str, object]:
    found: dict[str, object] = {
        "benchbox": environment.benchbox,
        "device": environment.device,
        "driver": environment.driver,
        "number of devices": len(environment.devices),
    }
    for name in _COMPARED_OF_THE_HOST:
        found[f"host.{name}"] = getattr(environment.host, name)
    software: dict[str, Any] = msgspec.structs.asdict(environment.software)
    found |= {f"software.{name}": value for name, value in software.items() if name != "devices"}
    for number, device in enumerate(environment.devices):
        for name, value in msgspec.structs.asdict(device).items():
            if name not in _OWN_TO_A_DEVICE:
                found[f"devices[{number}].{name}"] = value
    return found
