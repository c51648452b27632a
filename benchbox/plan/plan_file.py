"""Read a job and the prices of a plan from TOML, and say in one line what is wrong with them."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from msgspec.structs import replace

from benchbox.errors import BadInputError
from benchbox.plan.tomlfile import bad_input, convert, quoted, read_toml
from benchbox.schema import DevicePrice, PlanJob, Prices

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
MAX_COUNT = 100_000
MAX_COUNTS = 4096
_MAX_FIGURE = 1e15


def read_job(path: Path) -> PlanJob:
    """The ``[job]`` table of ``path``.

    Raises:
        BadInputError: unreadable, not TOML, or a key is unknown, missing or mistyped.
    """
    data = read_toml(path)
    extra = sorted(set(data) - {"job"})
    if extra or not isinstance(data.get("job"), dict):
        what = f"unknown key {quoted(extra[0])}" if extra else "the table `[job]` is missing"
        raise bad_input(path, f"{what}; a plan has one table, `[job]`")
    return convert(data["job"], PlanJob, path, "job")


def read_prices(path: Path, today: datetime.date) -> Prices:
    """The prices in ``path``.

    Raises:
        BadInputError: unreadable or malformed, without currency or date, of a day after ``today``, in mixed
            currencies, or a device has neither a rent nor a whole purchase.
    """
    prices = convert(read_toml(path), Prices, path)
    if prices.date > today:
        raise bad_input(path, f"`date`: {prices.date} is still to come; give the day that the prices are of")
    if not re.fullmatch(r"[A-Z]{3}", prices.currency):
        raise bad_input(path, f"`currency`: {quoted(prices.currency)} is no code such as 'EUR'")
    for place, device in enumerate(prices.device):
        key = f"device[{place}]"
        if device.currency is not None and device.currency != prices.currency:
            raise bad_input(
                path,
                f"`{key}.currency`: {quoted(device.currency)}, but the file is in {quoted(prices.currency)}; "
                "convert to one currency",
            )
        wrong = _what_is_wrong(device)
        if wrong:
            raise bad_input(path, f"`{key}` ({quoted(device.name)}): {wrong}")
    names = [device.name.casefold() for device in prices.device]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise bad_input(path, f"{quoted(doubled)} has two prices")
    return prices


def checked_job(job: PlanJob) -> tuple[PlanJob, int, float | None]:
    """``job`` with its number of samples and its deadline in seconds.

    Raises:
        BadInputError: neither samples nor dataset size and epochs, or both; an impossible deadline; a count
            that no cluster has.
    """
    for name in ("samples", "dataset_size", "global_batch_size", "devices_per_host"):
        value = getattr(job, name)
        if value is not None and value < 1:
            raise BadInputError(f"--{name.replace('_', '-')}: {value} is no whole number from 1")
    for name in ("epochs", "budget", "network_gb_per_s"):
        value = getattr(job, name)
        if value is not None and not 0 < value < _MAX_FIGURE:  # NaN too
            raise BadInputError(
                f"--{name.replace('_', '-')}: {value} is no positive number of a sensible size"
            )
    by_epochs = job.dataset_size is not None and job.epochs is not None
    if job.samples is not None and (job.dataset_size is not None or job.epochs is not None):
        raise BadInputError("the job says both --samples and --dataset-size or --epochs; give one of them")
    if job.samples is None and not by_epochs:
        raise BadInputError("the job has no size; give --samples N, or --dataset-size N and --epochs E")
    samples = job.samples if job.samples is not None else round((job.dataset_size or 0) * (job.epochs or 0))
    if not 1 <= samples <= 2**48:
        raise BadInputError(f"the job has {samples} samples; give between 1 and {2**48}")
    counts = tuple(sorted(set(job.counts)))
    if not counts or counts[-1] > MAX_COUNT or len(counts) > MAX_COUNTS:
        raise BadInputError(f"--counts: give 1 to {MAX_COUNTS} whole numbers from 1 to {MAX_COUNT}")
    deadline_s = None if job.deadline is None else read_duration(job.deadline)
    return replace(job, counts=counts), samples, deadline_s


def read_targets(text: str) -> tuple[str, ...]:
    """Names of devices by comma, of which there may be one more than needed.

    Raises:
        BadInputError: there is no name.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise BadInputError("--target: no name; give e.g. h100-sxm5-80gb,l40s")
    return names


def read_duration(text: str) -> float:
    """``48h`` in seconds.

    Raises:
        BadInputError: no positive number with s, m, h, d or w.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])\s*", text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise BadInputError(f"--deadline: {quoted(text)} is no time ahead; give e.g. 90m, 48h or 10d")
    return seconds


def read_counts(text: str) -> tuple[int, ...]:
    """``1,2,8`` or ``1-1024`` as numbers.

    Raises:
        BadInputError: anything else.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= MAX_COUNT:
            raise BadInputError(
                f"--counts: {quoted(text)}; give whole numbers from 1 to {MAX_COUNT}, e.g. 1,2,4 or 1-64"
            )
        counts.extend(range(first, last + 1))
    return tuple(counts)


def _what_is_wrong(device: DevicePrice) -> str | None:
    if (device.per_hour is None) == (device.purchase is None):
        return "give either `per_hour`, or `purchase` with `lifetime_years` and `utilization`"
    if device.purchase is not None and (device.lifetime_years is None or device.utilization is None):
        return "`purchase` needs `lifetime_years` and `utilization`"
    return None
