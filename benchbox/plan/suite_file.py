"""The shape of a suite file, table by table, with its defaults."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from benchbox.schema import (
    DataSource,
    MeasureSettings,
    MemoryFormat,
    Positive,
    PositiveInt,
    Precision,
    Record,
    Strategy,
)

Seed = Annotated[int, Meta(ge=0, le=2**48)]
NumLoaderWorkers = Annotated[int, Meta(ge=0, le=1024)]
NumImages = Annotated[int, Meta(ge=1, le=100_000)]


class Workload(Record, frozen=True, kw_only=True):
    """``[workload]``: what is trained, and on what."""

    model: str = "reference-cnn"
    data: DataSource = "device"
    data_dir: str | None = None
    num_generated_images: NumImages | None = None
    num_loader_workers: NumLoaderWorkers | None = None
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    input_shape: tuple[PositiveInt, ...] | None = None
    num_classes: PositiveInt | None = None
    learning_rate: Positive | None = None
    seed: Seed = 0


class Axes(Record, frozen=True, kw_only=True):
    """``[axes]``: every list is crossed with every other."""

    per_device_batch_size: tuple[PositiveInt, ...] = (32,)
    precision: tuple[Precision, ...] = ("fp32",)
    gradient_checkpointing: tuple[bool, ...] = (False,)
    strategy: tuple[Strategy, ...] = ("single",)
    world_size: tuple[PositiveInt, ...] = (1,)
    gradient_accumulation_steps: tuple[PositiveInt, ...] = (1,)
    memory_format: tuple[MemoryFormat, ...] = ("contiguous",)
    compile: tuple[bool, ...] = (False,)


class Exclude(Record, frozen=True, kw_only=True):
    """``[[exclude]]``: cases with all of these values are taken out."""

    per_device_batch_size: PositiveInt | UnsetType = UNSET
    precision: Precision | UnsetType = UNSET
    gradient_checkpointing: bool | UnsetType = UNSET
    strategy: Strategy | UnsetType = UNSET
    world_size: PositiveInt | UnsetType = UNSET
    gradient_accumulation_steps: PositiveInt | UnsetType = UNSET
    memory_format: MemoryFormat | UnsetType = UNSET
    compile: bool | UnsetType = UNSET


class Include(Exclude, frozen=True, kw_only=True):
    """``[[include]]``: one more case; what it does not name comes from the workload and from defaults."""

    model: str | UnsetType = UNSET
    data: DataSource | UnsetType = UNSET
    data_dir: str | UnsetType = UNSET
    num_generated_images: NumImages | UnsetType = UNSET
    num_loader_workers: NumLoaderWorkers | UnsetType = UNSET
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | UnsetType = UNSET
    input_shape: tuple[PositiveInt, ...] | UnsetType = UNSET
    num_classes: PositiveInt | UnsetType = UNSET
    learning_rate: Positive | UnsetType = UNSET
    seed: Seed | UnsetType = UNSET


class SuiteFile(Record, frozen=True, kw_only=True):
    """The whole file."""

    workload: Workload = Workload()
    axes: Axes = Axes()
    exclude: tuple[Exclude, ...] = ()
    include: tuple[Include, ...] = ()
    measure: MeasureSettings = MeasureSettings()
