"""What stands in for an all-gather or a reduce-scatter that is to exchange nothing."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def repeat_own(output_tensor: Tensor, input_tensor: Tensor, *_: object, **__: object) -> None:
    """Write this rank's part in the place of every rank's, as much as a gather writes.

    What lay in that memory before could be no numbers at all, and a step that overflows is skipped. The
    rank's own part may lie in its place already.
    """
    own = input_tensor.reshape(-1)
    for part in output_tensor.view(-1, own.numel()):
        if part.data_ptr() != own.data_ptr():
            part.copy_(own)


def take_own(output: Tensor, input: Tensor, *_: object, **__: object) -> None:  # noqa: A002 - torch's names
    """Write this rank's own share of what it brought, as much as a scatter writes.

    What lay in that memory before could be no numbers, and a step that overflows is skipped.
    """
    output.copy_(input.reshape(dist.get_world_size(), -1)[dist.get_rank()].view_as(output))
