"""A compute budget: the job, the prices, and what each configuration would take."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from msgspec import Meta

from benchbox.schema._base import (
    Count,
    DataSource,
    MemoryFormat,
    NonNegative,
    Positive,
    PositiveInt,
    Precision,
    Record,
    Strategy,
)
from benchbox.schema.grade import LeftOut

Basis = Literal["measured", "interpolated", "predicted"]
Verdict = Literal["yes", "maybe", "no"]
Share = Annotated[float, Meta(ge=0.001, le=1)]
_Years = Annotated[float, Meta(ge=0.01, le=100)]
_UpTo = Annotated[float, Meta(ge=0, le=1e12)]


class PlanJob(Record, frozen=True, kw_only=True):
    """What has to be trained, by when, for how much, and on what it may run: ``[job]`` of a plan."""

    model: str | None = None
    """As the report's cases name it; needed where they train several."""
    samples: PositiveInt | None = None
    """In all; or ``dataset_size`` and ``epochs``."""
    dataset_size: PositiveInt | None = None
    epochs: Positive | None = None
    global_batch_size: PositiveInt | None = None
    """Of one optimizer step; ``None``: each device's own batch, so it grows with their number."""
    deadline: str | None = None
    """``48h``, ``90m``, ``10d``."""
    budget: Positive | None = None
    """In the currency of the prices."""
    targets: tuple[str, ...] = ()
    """Device names; empty: the devices of the reports and every profile."""
    counts: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    devices_per_host: PositiveInt = 8
    network_gb_per_s: Positive | None = None
    """Between hosts, for each device; without it no configuration has more than one host."""


class DevicePrice(Record, frozen=True, kw_only=True):
    """What one device costs: rented by the hour, or bought."""

    name: str
    per_hour: Positive | None = None
    """Rent, electricity and host included."""
    purchase: Positive | None = None
    host_share: _UpTo = 0.0
    """The device's share of the host that it stands in, bought with it."""
    lifetime_years: _Years | None = None
    utilization: Share | None = None
    """Share of the lifetime in which the device earns its price."""
    power_w: Positive | None = None
    """Under load, for where neither a report nor a profile says it."""
    currency: str | None = None
    """Only to be checked against the file's."""


class Prices(Record, frozen=True, kw_only=True):
    """The user's prices: a TOML file."""

    currency: str
    date: datetime.date
    """Of the prices; they age."""
    electricity_per_kwh: _UpTo | None = None
    """For devices that are bought."""
    grid_g_co2_per_kwh: _UpTo | None = None
    host_w_per_device: _UpTo = 0.0
    """Power of the host, for each device."""
    power_usage_effectiveness: Annotated[float, Meta(ge=1, le=5)] = 1.0
    device: tuple[DevicePrice, ...] = ()


class Estimate(Record, frozen=True, kw_only=True):
    """A figure and its 80 % interval."""

    value: NonNegative
    low: NonNegative
    high: NonNegative


class Configuration(Record, frozen=True, kw_only=True):
    """One way to do the job."""

    device: str
    count: PositiveInt
    strategy: Strategy
    precision: Precision
    per_device_batch_size: PositiveInt
    gradient_accumulation_steps: PositiveInt
    gradient_checkpointing: bool
    compile: bool
    memory_format: MemoryFormat = "contiguous"
    data: DataSource = "device"
    basis: Basis
    source: str
    """The device and the case's id that it rests on."""
    samples_per_second: Estimate
    time_s: Estimate
    cost: Estimate | None
    """In the prices' currency; ``None`` where the device has no price."""
    energy_j: Estimate | None
    """Of the devices and their share of the hosts; ``None`` where no power is known."""
    carbon_g: Estimate | None
    """``None`` where the prices name no grid."""
    fits_memory: bool | None
    """``None`` where it is too near to tell, or nothing is known."""
    meets_deadline: Verdict | None
    """``maybe`` where the interval spans it; ``None`` without a deadline."""
    within_budget: Verdict | None
    on_front: bool
    """Nothing is both cheaper and faster; False throughout without prices."""


class Answer(Record, frozen=True, kw_only=True):
    """Whether the deadline, or the budget, can be kept, and what would be enough."""

    verdict: Verdict
    wanted: Positive
    """Seconds, or the prices' currency."""
    best: Estimate
    """What the configuration takes whose interval ends first."""
    enough: Positive
    """The end of that interval: a deadline, or a budget, that is surely kept."""


class PlanResult(Record, frozen=True, kw_only=True):
    """What ``benchbox plan`` found. Configurations come ranked; ``fastest``, ``cheapest`` and ``front`` are
    places in ``configurations``, the front by rising time."""

    schema_version: PositiveInt = 1
    """A plan that lacks it is of version 1."""
    job: PlanJob
    samples: PositiveInt
    deadline_s: Positive | None
    currency: str | None
    prices_date: datetime.date | None
    num_considered: Count
    """How many configurations were ranked; the best of them are listed, and the front."""
    configurations: tuple[Configuration, ...]
    fastest: Count
    cheapest: Count | None
    front: tuple[Count, ...]
    deadline_answer: Answer | None
    budget_answer: Answer | None
    both_answer: Verdict | None
    """Whether one configuration keeps both; ``None`` unless both are given."""
    refused: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    cheapest_in_time: Count | None = None
    """Place of what surely keeps the deadline and is sure to cost least; ``None`` where nothing is."""
    fastest_in_budget: Count | None = None
    """Place of what surely keeps the budget and is sure to end first."""
    num_listed: Count | None = None
    """Length of ``configurations``; ``None`` in a plan by an older benchbox."""
