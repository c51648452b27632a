"""One machine of several: how many ranks it gives, on which network they meet, and what cannot run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from msgspec.structs import replace

from benchbox.errors import BadInputError
from benchbox.measure.host_adam import needs_host_adam
from benchbox.measure.nodes.network import gloo_interface
from benchbox.measure.nodes.options import NodeOptions
from benchbox.measure.placement import Placement
from benchbox.measure.sampler import Sampler
from benchbox.measure.site import Site
from benchbox.schema import Case, MeasureSettings


class NodeSite(Site):
    """As :class:`Site`; ``address`` is this machine's, as the other nodes reach it.

    A case takes the first ``num_local_ranks`` ranks of as many nodes as it needs, from node 0 on; one that
    fits into a single node runs on node 0 alone.
    """

    def __init__(
        self, cases: Sequence[Case], settings: MeasureSettings, device: str, options: NodeOptions
    ) -> None:
        super().__init__(cases, settings, device)
        self.num_local_ranks = 1
        self.address: str
        self.options = options

    def __enter__(self) -> NodeSite:
        """As :meth:`Site.__enter__`. Builds what cases need on the way: once they run, nodes wait for each
        other on an attempt's own time."""
        with contextlib.ExitStack() as closing:
            super().__enter__()
            closing.push(super().__exit__)
            for case in self._cases:
                if needs_host_adam(case) and self.why_unsupported(case) is None:
                    for _ in self.host_adam(case):
                        pass
            closing.pop_all()  # all is well: leaving is for __exit__
        return self

    def num_nodes(self, case: Case) -> int:
        """How many nodes ``case`` runs on, where it can run at all."""
        return max(1, case.world_size // self.num_local_ranks)

    def why_unsupported(self, case: Case) -> str | None:
        """As :meth:`Site.why_unsupported`; the nodes are alike, so what this one can do all can."""
        each, num_nodes = self.num_local_ranks, self.options.num_nodes
        if case.strategy != "single" and case.world_size > each:
            if case.world_size % each:
                return f"world size {case.world_size} is no multiple of the {each} ranks that each node has"
            if case.world_size > each * num_nodes:
                return (
                    f"world size {case.world_size} needs {case.world_size // each} nodes of {each} ranks; "
                    f"this run has {num_nodes}"
                )
            case = self._part(case)
        return super().why_unsupported(case)

    def rank_variables(self, case: Case) -> dict[str, str]:
        """The environment of the ranks of ``case`` on this node, on top of the server's."""
        return super().rank_variables(self._part(case))

    def sampler(self, case: Case) -> Sampler | None:
        """A new sampler for the devices of ``case`` on this node."""
        return super().sampler(self._part(case))

    def _part(self, case: Case) -> Case:
        """As much of ``case`` as one node has of it, which decides over devices and threads."""
        return replace(case, world_size=min(case.world_size, self.num_local_ranks))

    def _place(self, placement: Placement) -> Placement:
        wanted, what = self.options.num_local_ranks, "GPUs"
        there = len(placement.devices)
        if not placement.devices:
            wanted, what = wanted or 1, "usable processors"
            there = placement.machine().num_usable_processors
        if wanted is not None and wanted > there:
            raise BadInputError(
                f"--nproc-per-node: {wanted}, but node {self.options.node} has {there} {what}"
            )
        self.num_local_ranks = wanted or there
        return placement._replace(
            devices=placement.devices[: self.num_local_ranks], interface=gloo_interface(self.address)
        )
