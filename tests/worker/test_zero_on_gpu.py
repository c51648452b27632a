"""What DeepSpeed asks a GPU's machine, on one without."""

from __future__ import annotations

import pynvml
import pytest
import torch

from benchbox.worker.strategies.zero import tell_free_memory


def test_devices_may_be_named_when_deepspeed_asks_for_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.accelerator import cuda_accelerator

    accelerator = cuda_accelerator.CUDA_Accelerator()
    monkeypatch.setattr(cuda_accelerator, "pynvml", pynvml)  # as where the driver's library is
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f0c9c1e-0000-4000-8000-00000000aaaa")
    with pytest.raises(ValueError, match="GPU-5f0c9c1e"):  # once this passes, nothing has to be told
        accelerator.available_memory(0)
    free_and_all = {None: (1, 80), 0: (7, 80), 1: (9, 80)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", free_and_all.__getitem__)
    tell_free_memory(accelerator)
    assert [accelerator.available_memory(index) for index in (0, 1)] == [7, 9]
    assert accelerator.available_memory() == 1
