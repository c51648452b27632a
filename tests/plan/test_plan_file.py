from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from benchbox.errors import BadInputError
from benchbox.plan.plan_file import (
    checked_job,
    read_counts,
    read_duration,
    read_job,
    read_prices,
    read_targets,
)
from benchbox.schema import PlanJob

TODAY = datetime.date(2026, 1, 6)
PRICES = """
currency = "EUR"
date = 2026-01-05
electricity_per_kwh = 0.3

[[device]]
name = "A100-SXM4-80GB"
per_hour = 2.0

[[device]]
name = "L40S"
purchase = 8000
lifetime_years = 4
utilization = 0.5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_prices_are_read(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, PRICES), TODAY)
    assert prices.date.isoformat() == "2026-01-05"
    assert [device.name for device in prices.device] == ["A100-SXM4-80GB", "L40S"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("date = 2026-01-05", "", "date"),
        ('currency = "EUR"', "", "currency"),
        ('currency = "EUR"', 'currency = "€"', "no code"),
        ("per_hour = 2.0", 'per_hour = 2.0\ncurrency = "USD"', "convert to one currency"),
        ("per_hour = 2.0", "", "give either `per_hour`"),
        ("per_hour = 2.0", "per_hour = 2.0\npurchase = 1", "give either `per_hour`"),
        ("per_hour = 2.0", "per_hour = -2.0", "per_hour"),
        ("per_hour = 2.0", "per_hour = inf", "per_hour"),
        ("utilization = 0.5", "", "needs `lifetime_years` and `utilization`"),
        ("utilization = 0.5", "utilization = 1.5", "utilization"),
        ("utilization = 0.5", "utilization = 1e-300", "utilization"),  # times a lifetime it would be nothing
        ("lifetime_years = 4", "lifetime_years = 1e-300", "lifetime_years"),
        ("electricity_per_kwh = 0.3", "grid_g_co2_per_kwh = inf", "grid_g_co2_per_kwh"),
        ('name = "L40S"', 'name = "a100-sxm4-80gb"', "has two prices"),
        ("per_hour = 2.0", "per_day = 2.0", "per_day"),
        ("date = 2026-01-05", "date = 2026-01-07", "`date`: 2026-01-07 is still to come"),
    ],
)
def test_bad_prices_are_one_line(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = written(tmp_path, PRICES.replace(old, new))
    with pytest.raises(BadInputError, match=what) as caught:
        read_prices(path, TODAY)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_job_is_read_and_counted(tmp_path: Path) -> None:
    job = read_job(
        written(tmp_path, '[job]\ndataset_size = 1000\nepochs = 2.5\ndeadline = "2d"\ncounts = [4, 1]')
    )
    checked, samples, deadline_s = checked_job(job)
    assert (checked.counts, samples, deadline_s) == ((1, 4), 2500, 172_800)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "`\\[job\\]` is missing"),
        ("job = 3", "`\\[job\\]` is missing"),
        ("[job]\nsamples = 1\n[other]\n", "'other'"),
        ("[job]\nsample = 1\n", "sample"),
        ("[job]\nsamples = -1\n", "samples"),
        ("[job]\nsamples = true\n", "samples"),
    ],
)
def test_a_bad_job_is_one_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(BadInputError, match=what):
        read_job(written(tmp_path, text))


@pytest.mark.parametrize(
    ("job", "what"),
    [
        (PlanJob(), "--samples N"),
        (PlanJob(epochs=3.0), "--samples N"),
        (PlanJob(samples=1, epochs=3.0), "both"),
        (PlanJob(dataset_size=1, epochs=0.1), "0 samples"),
        (PlanJob(samples=0), "--samples: 0"),
        (PlanJob(dataset_size=-1, epochs=1.0), "--dataset-size: -1"),
        (PlanJob(samples=1, global_batch_size=0), "--global-batch-size: 0"),
        (PlanJob(samples=1, devices_per_host=0), "--devices-per-host: 0"),
        (PlanJob(samples=1, counts=()), "--counts"),
        (PlanJob(samples=1, counts=(10**6,)), "--counts"),
        (PlanJob(samples=1, counts=tuple(range(1, 5000))), "--counts"),
        (PlanJob(dataset_size=5, epochs=float("inf")), "--epochs"),
        (PlanJob(samples=1, budget=float("nan")), "--budget"),
        (PlanJob(samples=1, network_gb_per_s=float("inf")), "--network-gb-per-s"),
        (PlanJob(samples=1, deadline="0h"), "--deadline"),
        (PlanJob(samples=1, deadline="-3h"), "--deadline"),
        (PlanJob(samples=1, deadline="soon"), "--deadline"),
    ],
)
def test_an_impossible_job_is_one_line(job: PlanJob, what: str) -> None:
    with pytest.raises(BadInputError, match=what):
        checked_job(job)


def test_targets() -> None:
    assert read_targets(" h100, L40S,") == ("h100", "L40S")
    for text in ("", ",", " , "):
        with pytest.raises(BadInputError, match="--target"):
            read_targets(text)


def test_counts_and_durations() -> None:
    assert read_counts("1, 2,8-10") == (1, 2, 8, 9, 10)
    assert (read_duration("90m"), read_duration("1.5 h"), read_duration("2w")) == (5400, 5400, 1_209_600)
    for text in ("", "0", "5-2", "1-9999999", "a", "1;2"):
        with pytest.raises(BadInputError, match="--counts"):
            read_counts(text)
