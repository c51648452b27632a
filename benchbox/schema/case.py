"""What will run: cases, and how they are measured."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from benchbox.schema._base import (
    Count,
    DataSource,
    HostAllocator,
    MemoryFormat,
    Positive,
    PositiveInt,
    Precision,
    Record,
    Strategy,
)


class Case(Record, frozen=True, kw_only=True):
    """One configuration to train. ``case_id`` is a hash of what all other fields mean."""

    case_id: str
    model: str
    data: DataSource
    per_device_batch_size: PositiveInt
    precision: Precision
    gradient_checkpointing: bool
    strategy: Strategy
    world_size: PositiveInt
    gradient_accumulation_steps: PositiveInt
    memory_format: MemoryFormat
    compile: bool
    input_shape: tuple[PositiveInt, ...]
    """Shape of one sample, channels first; one number for a flat vector."""
    num_classes: PositiveInt
    hidden_size: PositiveInt | None
    """Width of the ``mlp``'s hidden layer; ``None`` for every other model."""
    learning_rate: Positive
    seed: Count
    data_dir: str | None
    """Folder of class folders, as the suite writes it (relative to the suite's file)."""
    num_generated_images: PositiveInt | None
    """``folder`` data without ``data_dir``: so many seeded JPEGs are made in the run's own folder."""
    num_loader_workers: Count | None
    """DataLoader processes; ``None`` where the data needs no loader."""

    @property
    def global_batch_size(self) -> int:
        """Samples that one optimizer step consumes over all ranks."""
        return self.per_device_batch_size * self.gradient_accumulation_steps * self.world_size


class MeasureSettings(Record, frozen=True, kw_only=True):
    """How each attempt is measured: the suite's ``[measure]`` table with its defaults."""

    repetitions: Annotated[int, Meta(ge=1, le=1000)] = 3
    max_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 20.0
    """Per attempt, warm-up included; the extra passes come on top."""
    min_warmup_steps: PositiveInt = 3
    max_warmup_steps: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    min_measured_steps: PositiveInt = 3
    max_measured_steps: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    ci_target_pct: Positive | None = None
    """Half-width of the 95 % interval at which measuring stops; ``None``: 0.5 on a GPU, 2 on a CPU."""
    telemetry_hz: Annotated[float, Meta(ge=0, le=50)] = 10.0
    """Samples a second; 0 turns telemetry off."""
    timeout_s: Annotated[float, Meta(gt=0, le=864_000)] | None = None
    """An attempt that lasts longer is ended, as ``timeout`` if it was not measured by then; ``None``:
    5 x max_seconds + 120."""
    host_allocator: HostAllocator = "tuned"
    num_threads: PositiveInt | None = None
    """Arithmetic threads of the worker; ``None``: one for each physical core that it may use."""
    cudnn_benchmark: bool = True
    num_phase_steps: Annotated[int, Meta(ge=0, le=1000)] = 5
    """Steps of the separate pass that times phases; 0 leaves it out."""
    profile_step: bool = True
    """Whether one step is profiled, operator by operator, in a pass of its own."""
    num_input_rounds: Annotated[int, Meta(ge=0, le=100)] = 3
    """At most so many rounds of the pass that sets the case's own input against a batch that is on the device
    already; 0 leaves it out. There is none where ``data`` is ``device``."""
    num_split_rounds: Annotated[int, Meta(ge=0, le=100)] = 3
    """At most so many rounds of the pass that sets the batch against half of it; 0 leaves it out."""
    ceiling_seconds: Annotated[float, Meta(ge=0, le=600)] = 4.0
    """Once a run: the time for probes of what the machine reaches; 0 leaves them out."""
    num_communication_steps: Annotated[int, Meta(ge=0, le=1000)] = 12
    """Steps with collectives, and as many without, in a separate pass of several ranks; 0 leaves it out."""
    num_trajectory_steps: Annotated[int, Meta(ge=0, le=1000)] = 4
    """Steps of the separate pass that compares losses with fp32; 0 leaves it out."""

    @property
    def effective_timeout_s(self) -> float:
        """The time after which an attempt counts as hung."""
        return self.timeout_s if self.timeout_s is not None else 5 * self.max_seconds + 120


class Suite(Record, frozen=True, kw_only=True):
    """What a suite file means once its axes are crossed."""

    name: str
    cases: tuple[Case, ...]
    measure: MeasureSettings
    order_seed: Count
    """Seed of the order in which attempts run."""
