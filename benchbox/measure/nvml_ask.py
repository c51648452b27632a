"""One question to the driver at a time, and ``None`` for every answer that it does not give.

Opens nothing: :mod:`benchbox.measure.nvml` hands in the binding that it has loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

_NO_VALUE_32 = (1 << 32) - 1
_NO_VALUE_64 = (1 << 64) - 1
"""NVML_VALUE_NOT_AVAILABLE in its two widths."""


class Asker:
    """Asks the driver, and remembers by field what it refused for good."""

    def __init__(self, pynvml: ModuleType) -> None:
        self._error: type[Exception] = pynvml.NVMLError
        self._final = {
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_NO_PERMISSION,
            pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            pynvml.NVML_ERROR_DEPRECATED,
            pynvml.NVML_ERROR_GPU_IS_LOST,
        }
        self._refused: set[str] = set()

    def ask(self, field: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """What ``call`` returns; ``None`` if it fails, now or for good."""
        if field in self._refused:
            return None
        try:
            return call(*arguments)
        except self._error as error:
            if getattr(error, "value", None) in self._final:
                self._refused.add(field)
            return None


def known_32(value: int | None) -> int | None:
    """``None`` for NVML's 32-bit "not available"."""
    return None if value == _NO_VALUE_32 else value


def known_64(value: int | None) -> int | None:
    """``None`` for NVML's 64-bit "not available"."""
    return None if value == _NO_VALUE_64 else value


def scaled(value: float | None, factor: float) -> float | None:
    """``value`` in another unit; ``None`` stays ``None``."""
    return None if value is None else value * factor
