"""How busy a device's units were between two samples: NVML's GPM metrics, on Hopper and later.

Opens nothing: :mod:`benchbox.measure.nvml` hands in the binding that it has loaded.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from benchbox.measure.nvml_ask import Asker


class Gpm:
    """Activity of a device's units between two samples (Hopper and later)."""

    def __init__(self, pynvml: ModuleType, asker: Asker, handle: Any, parent: Any) -> None:
        self._pynvml = pynvml
        self._ask = asker.ask
        self._device = handle if parent is None else parent
        self._slice = (
            None if parent is None else self._ask("slice", pynvml.nvmlDeviceGetGpuInstanceId, handle)
        )
        self._buffers: list[Any] = []
        self._has_previous = False
        support = self._ask("gpm support", pynvml.nvmlGpmQueryDeviceSupport, self._device)
        if support is None or not support.isSupportedDevice or (parent is not None and self._slice is None):
            return
        self._buffers = [self._ask("gpm buffer", pynvml.nvmlGpmSampleAlloc) for _ in range(2)]
        if None in self._buffers:
            self.close()
            return
        self._request = pynvml.c_nvmlGpmMetricsGet_t()
        self._request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        wanted = (
            pynvml.NVML_GPM_METRIC_SM_UTIL,
            pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
            pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
        )
        self._request.numMetrics = len(wanted)
        for position, metric in enumerate(wanted):
            self._request.metrics[position].metricId = metric

    def activity_since_last(self) -> tuple[float | None, ...]:
        """SM, tensor-pipe and DRAM activity in percent, means since the last call; ``None`` in the first."""
        nothing = (None, None, None)
        if not self._buffers:
            return nothing
        earlier, later = self._buffers
        if self._take(later) is None:
            return nothing
        self._buffers = [later, earlier]
        if not self._has_previous:
            self._has_previous = True
            return nothing
        self._request.sample1, self._request.sample2 = earlier, later
        if self._ask("gpm metrics", self._pynvml.nvmlGpmMetricsGet, self._request) is None:
            return nothing
        return tuple(self._value(self._request.metrics[position]) for position in range(3))

    def close(self) -> None:
        """Give the sample buffers back."""
        for buffer in self._buffers:
            if buffer is not None:
                self._ask("gpm free", self._pynvml.nvmlGpmSampleFree, buffer)
        self._buffers = []

    def _take(self, buffer: Any) -> Any:
        if self._slice is None:
            return self._ask("gpm sample", self._pynvml.nvmlGpmSampleGet, self._device, buffer)
        sample = self._pynvml.nvmlGpmMigSampleGet
        return self._ask("gpm sample", sample, self._device, self._slice, buffer)

    def _value(self, metric: Any) -> float | None:
        is_known = metric.nvmlReturn == self._pynvml.NVML_SUCCESS and math.isfinite(metric.value)
        return metric.value if is_known else None
