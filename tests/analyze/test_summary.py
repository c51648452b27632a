"""Figures against values computed by hand."""

from __future__ import annotations

import math

import pytest

from benchbox.analyze.summary import case_outcome, summarize_case
from benchbox.schema import (
    THROTTLE_REASONS,
    AttemptResult,
    CaseSummary,
    DeviceTelemetry,
    Flops,
    HostUsage,
    PrecisionRates,
    ReachedRates,
    Window,
    WorkerMemory,
)
from tests.factories import UUID, make_attempt, make_case, make_device_samples, make_profile, make_rank

MS = 1_000_000


def summary_of(*attempts: AttemptResult, **case_changes: object) -> CaseSummary:
    summary = summarize_case(make_case(**case_changes), attempts, None)
    assert summary is not None
    return summary


def telemetry(at_s: tuple[float, ...], **columns: object) -> DeviceTelemetry:
    return DeviceTelemetry(uuid=UUID, sample_at_ns=tuple(int(at * 1e9) for at in at_s), **columns)


def test_throughput_counts_all_samples_of_a_step() -> None:
    # 8 x 2 x 1 samples in 10 ms
    case = make_case(per_device_batch_size=8, gradient_accumulation_steps=2)
    summary = summarize_case(case, [make_attempt(case)], None)
    assert summary is not None
    assert summary.samples_per_second == pytest.approx(1600)


def test_a_bursting_loader_cannot_hide_behind_the_median() -> None:
    # Nine steps of 1 ms and one of 91 ms, again and again: 10 ms on average, 1 ms in the middle.
    steps = ([1 * MS] * 9 + [91 * MS]) * 10
    case = make_case()
    summary = summary_of(make_attempt(case, 0, make_rank(steps)))
    assert summary.samples_per_second == pytest.approx(32 / 0.010)
    assert summary.step_time_p50_ns == 1 * MS


def test_the_slowest_rank_sets_the_pace() -> None:
    case = make_case(world_size=2, strategy="ddp")
    attempt = make_attempt(case, 0, make_rank([10 * MS] * 4), make_rank([20 * MS] * 4, rank=1))
    summary = summarize_case(case, [attempt], None)
    assert summary is not None
    assert summary.samples_per_second == pytest.approx(64 / 0.020)
    assert summary.step_time_p50_ns == 20 * MS
    assert summary.num_measured_steps == 4


def test_over_attempts_mean_and_t_interval_of_logarithms() -> None:
    case = make_case(per_device_batch_size=10)
    attempts = [make_attempt(case, n, make_rank([t * MS] * 5)) for n, t in enumerate((10, 8, 12))]
    summary = summarize_case(case, attempts, None)
    assert summary is not None
    logs = [math.log(rate) for rate in (1000.0, 1250.0, 10000 / 12)]
    centre = sum(logs) / 3
    half = 4.303 * math.sqrt(sum((x - centre) ** 2 for x in logs) / 2 / 3)
    assert summary.samples_per_second == pytest.approx(math.exp(centre))
    assert summary.interval_basis == "attempts"
    assert summary.num_attempts == 3
    assert summary.samples_per_second_interval is not None
    assert summary.samples_per_second_interval.low == pytest.approx(math.exp(centre - half), rel=1e-6)
    assert summary.samples_per_second_interval.high == pytest.approx(math.exp(centre + half), rel=1e-6)


@pytest.mark.parametrize("num_attempts", [3, 5])
def test_the_estimate_is_its_intervals_centre_even_with_one_disturbed_attempt(num_attempts: int) -> None:
    case = make_case()
    times = [10 * MS] * (num_attempts - 1) + [30 * MS]
    summary = summary_of(*(make_attempt(case, n, make_rank([t] * 5)) for n, t in enumerate(times)))
    interval = summary.samples_per_second_interval
    assert interval is not None
    assert summary.samples_per_second == pytest.approx(math.sqrt(interval.low * interval.high))


def test_a_single_attempt_has_an_interval_over_its_steps() -> None:
    steps = [10 * MS, 11 * MS, 9 * MS, 10 * MS, 11 * MS, 9 * MS] * 5
    summary = summary_of(make_attempt(make_case(), 0, make_rank(steps)))
    interval = summary.samples_per_second_interval
    assert summary.interval_basis == "steps"
    assert interval is not None
    assert 0 < interval.low < summary.samples_per_second < interval.high
    assert interval.high / summary.samples_per_second == pytest.approx(
        summary.samples_per_second / interval.low
    )


def test_one_step_has_no_interval() -> None:
    assert summary_of(make_attempt(make_case(), 0, make_rank([MS]))).samples_per_second_interval is None


def test_percentiles_are_pooled_over_attempts() -> None:
    case = make_case()
    summary = summary_of(
        make_attempt(case, 0, make_rank([t * MS for t in range(1, 11)])),
        make_attempt(case, 1, make_rank([t * MS for t in range(11, 22)])),
    )
    assert summary.step_time_p50_ns == 11 * MS
    assert summary.step_time_p95_ns == 20 * MS
    assert summary.num_measured_steps == 21


def test_what_nobody_measured_is_unknown_and_not_zero() -> None:
    summary = summary_of(make_attempt(make_case()))
    for name in summary.__struct_fields__:
        if name.startswith(
            ("peak", "device", "util", "power", "joules", "throttled", "cpu", "mfu", "ceiling")
        ):
            assert getattr(summary, name) is None, name
    assert summary.foreign_process_seen is None
    assert summary.achieved_tflops is None
    assert summary.minor_page_faults_per_step is None


def test_nothing_measured_gives_no_summary() -> None:
    case = make_case()
    assert summarize_case(case, [], None) is None
    assert summarize_case(case, [make_attempt(case, outcome="oom", ranks=())], None) is None
    assert summarize_case(case, [make_attempt(case, 0, make_rank(()))], None) is None


def test_failed_attempts_do_not_count() -> None:
    case = make_case()
    fast = make_attempt(case, 1, make_rank([MS] * 5), outcome="invalid")
    assert summary_of(make_attempt(case), fast).num_attempts == 1


def test_memory_is_the_largest_of_any_rank_and_attempt() -> None:
    def rank(allocated: int | None, rss: int) -> object:
        return make_rank(
            memory=WorkerMemory(
                peak_memory_allocated_bytes=allocated,
                peak_memory_reserved_bytes=None,
                peak_host_rss_bytes=rss,
            )
        )

    case = make_case()
    summary = summary_of(
        make_attempt(case, 0, rank(5, 70), rank(9, 60)), make_attempt(case, 1, rank(None, 90))
    )
    assert summary.peak_memory_allocated_bytes == 9
    assert summary.peak_memory_reserved_bytes is None
    assert summary.peak_host_rss_bytes == 90


def test_samples_over_all_devices() -> None:
    case = make_case()
    slowing = THROTTLE_REASONS["hw_thermal_slowdown"]
    devices = (
        telemetry(
            (1.01, 1.05),
            power_w=(100.0, 200.0),
            utilization_gpu_pct=(90.0, None),
            throttle_reasons=(slowing, THROTTLE_REASONS["gpu_idle"]),
            memory_used_bytes=(10, 30),
            num_foreign_processes=(0, 1),
        ),
        telemetry((1.01, 1.05), power_w=(300.0, 400.0), throttle_reasons=(0, None)),
    )
    summary = summary_of(make_attempt(case, 0, devices=devices))
    assert summary.power_w == pytest.approx(250)
    assert summary.utilization_gpu_pct == pytest.approx(90)
    assert summary.utilization_memory_pct is None
    assert summary.throttled_samples_pct == pytest.approx(100 / 3)
    assert summary.device_memory_used_bytes == 30
    assert summary.foreign_process_seen is True


class TestEnergy:
    """One window from 1 s to 2 s, ten steps of 100 ms, batch 32: 320 samples."""

    def summary(self, *devices: DeviceTelemetry, **rank_changes: object) -> CaseSummary:
        rank = make_rank([100 * MS] * 10, **rank_changes)
        return summary_of(make_attempt(make_case(), 0, rank, devices=devices))

    def test_counter_is_carried_to_the_ends_at_the_windows_own_rate(self) -> None:
        summary = self.summary(telemetry((1.2, 1.7), energy_j=(1000.0, 1050.0), power_w=(1.0, 1.0)))
        assert summary.joules_per_sample == pytest.approx(100 / 320)  # 100 W for one second
        assert summary.energy_source == "counter"

    def test_counter_is_interpolated_where_samples_lie_beyond_the_ends(self) -> None:
        # 50 W up to 1.1 s, 100 W up to 1.9 s, 200 W after: 5 + 80 + 20 J within the window
        device = telemetry((0.9, 1.1, 1.9, 2.1), energy_j=(0.0, 10.0, 90.0, 130.0))
        assert self.summary(device).joules_per_sample == pytest.approx(105 / 320)

    def test_power_by_the_trapezoid_rule(self) -> None:
        # 100 W held from 1.0 to 1.25, rising to 300 W at 1.75, held to 2.0: 25 + 100 + 75 J
        summary = self.summary(telemetry((1.25, 1.75), power_w=(100.0, 300.0)))
        assert summary.joules_per_sample == pytest.approx(200 / 320)
        assert summary.energy_source == "power-integral"

    def test_devices_add_up(self) -> None:
        device = telemetry((1.0, 2.0), energy_j=(0.0, 100.0))
        assert self.summary(device, device).joules_per_sample == pytest.approx(200 / 320)

    def test_a_device_that_tells_nothing_makes_the_sum_unknown(self) -> None:
        device = telemetry((1.0, 2.0), energy_j=(0.0, 100.0))
        assert self.summary(device, telemetry((1.0, 2.0))).joules_per_sample is None

    def test_only_windows_with_two_samples_count(self) -> None:
        windows = (
            Window(start_at_ns=1_000 * MS, end_at_ns=1_200 * MS, num_steps=2),
            Window(start_at_ns=1_300 * MS, end_at_ns=2_100 * MS, num_steps=8),
        )
        device = telemetry((1.1, 1.4, 1.6), power_w=(400.0, 100.0, 100.0))
        # 200 W at 1.3 s on the line between the readings around it: 15 J to 1.4 s, then 100 W for 0.7 s
        summary = self.summary(device, windows=windows)
        assert summary.joules_per_sample == pytest.approx(85 / (8 * 32))
        assert self.summary(telemetry((1.5,), energy_j=(5.0,), power_w=(5.0,))).joules_per_sample is None

    def test_a_counter_that_stands_still_or_was_reset_is_not_believed(self) -> None:
        still = telemetry((1.0, 2.0), energy_j=(7.0, 7.0), power_w=(100.0, 100.0))
        assert self.summary(still).energy_source == "power-integral"
        reset = telemetry((1.0, 2.0), energy_j=(7.0, 1.0))
        assert self.summary(reset).joules_per_sample is None

    def test_failed_samples_are_left_out(self) -> None:
        device = telemetry((1.0, 1.5, 2.0), energy_j=(0.0, None, 100.0))
        assert self.summary(device).joules_per_sample == pytest.approx(100 / 320)

    def test_a_busy_device_of_640_watts(self) -> None:
        rank = make_rank([100 * MS] * 10)
        summary = summary_of(make_attempt(make_case(), 0, rank, devices=(make_device_samples(rank),)))
        assert summary.joules_per_sample == pytest.approx(640 / 320)


class TestCompute:
    """10 ms a step, 5e11 model FLOPs: 50 TFLOP/s."""

    flops = Flops(
        model_flops_per_step=500_000_000_000, hardware_flops_per_step=600_000_000_000, num_parameters=1
    )

    def summary(self, precision: str, profile: object) -> CaseSummary:
        case = make_case(precision=precision)
        summary = summarize_case(case, [make_attempt(case, 0, make_rank(flops=self.flops))], profile)
        assert summary is not None
        return summary

    @pytest.mark.parametrize(
        ("precision", "peak", "reached"),
        [("fp32", 66.9, 51.2), ("tf32", 494.7, 371.0), ("bf16", 989.4, 702.0), ("fp16", 989.4, 688.0)],
    )
    def test_each_precision_against_its_own_peak(self, precision: str, peak: float, reached: float) -> None:
        summary = self.summary(precision, make_profile())
        assert summary.achieved_tflops == pytest.approx(50)
        assert summary.mfu == pytest.approx(50 / peak)
        assert (summary.mfu_peak_tflops, summary.mfu_peak_precision) == (peak, precision)
        assert summary.ceiling_fraction == pytest.approx(50 / reached)
        assert summary.ceiling_tflops == reached

    def test_without_a_profile(self) -> None:
        summary = self.summary("bf16", None)
        assert summary.achieved_tflops == pytest.approx(50)
        assert (summary.mfu, summary.mfu_peak_tflops, summary.ceiling_fraction) == (None, None, None)

    def test_a_profile_without_that_precision(self) -> None:
        rates = PrecisionRates(fp32=10.0)
        reached = ReachedRates(
            matmul_tflops=rates, conv_tflops=rates, copy_gb_per_s=None, host_to_device_gb_per_s=None
        )
        summary = self.summary("bf16", make_profile(peak_dense_tflops=rates, reached=reached))
        assert (summary.mfu, summary.mfu_peak_precision, summary.ceiling_fraction) == (None, None, None)

    def test_the_figure_is_for_one_device(self) -> None:
        case = make_case(world_size=4, strategy="ddp")
        ranks = [make_rank(flops=self.flops, rank=number) for number in range(4)]
        summary = summarize_case(case, [make_attempt(case, 0, *ranks)], None)
        assert summary is not None
        assert summary.achieved_tflops == pytest.approx(50)


def test_host_usage_over_the_windows_wall_time() -> None:
    usage = HostUsage(cpu_user_s=1.5, cpu_kernel_s=0.25, minor_page_faults=120, major_page_faults=0)
    summary = summary_of(make_attempt(make_case(), 0, make_rank([100 * MS] * 10, host_usage=usage)))
    assert summary.cpu_user_pct == pytest.approx(150)
    assert summary.cpu_kernel_pct == pytest.approx(25)
    assert summary.minor_page_faults_per_step == pytest.approx(12)


def test_overhead_is_the_middle_of_those_known() -> None:
    case = make_case()
    overheads = (2.0, None, 5.0, 3.0)
    summary = summary_of(*(make_attempt(case, n, overhead_s=s) for n, s in enumerate(overheads)))
    assert summary.overhead_s == pytest.approx(3)


def test_the_first_attempt_that_failed_decides_the_outcome() -> None:
    case = make_case()
    good = make_attempt(case)
    oom = make_attempt(case, 1, outcome="oom", reason="23 GiB wanted")
    crashed = make_attempt(case, 2, outcome="crashed", reason="signal 11")
    assert case_outcome([]) == (None, None)
    assert case_outcome([good]) == ("ok", None)
    assert case_outcome([good, oom, crashed]) == ("oom", "23 GiB wanted")
