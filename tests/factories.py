"""Synthetic records with realistic figures, the same on every call.

``make_report()`` is a run of eight cases on one H100, one of each outcome that a reader meets;
``make_report("cpu")`` is the same suite on a two-processor machine with no GPU. ``make_ranks_report()`` is a
run of several strategies on two H100s, one of them slower than the other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from benchbox.report.build import build_report
from benchbox.schema import (
    AllReduceRate,
    AttemptResult,
    Case,
    Communication,
    DeviceFacts,
    DeviceTelemetry,
    Environment,
    Flops,
    HardwareProfile,
    HostFacts,
    HostTelemetry,
    HostUsage,
    Interval,
    LossCheck,
    MeasureSettings,
    PhaseTimes,
    PrecisionRates,
    RankResult,
    ReachedRates,
    Report,
    Suite,
    TelemetryCost,
    TorchFacts,
    Window,
    WorkerMemory,
)

GIB = 2**30
UUID = "GPU-5f0c9c1e-0000-4000-8000-00000000c0de"
UUIDS = (UUID, "GPU-5f0c9c1e-0000-4000-8000-00000000cafe")
FLOPS_PER_SAMPLE = {"reference-cnn": 6_746_115_072, "small-cnn": 5_012_480}
NUM_PARAMETERS = {"reference-cnn": 191_692_136, "small-cnn": 693_962}


def make_case(**changes: Any) -> Case:
    """The reference CNN, fp32, batch 32, unless said otherwise; its id follows from its fields."""
    fields: dict[str, Any] = {
        "model": "reference-cnn",
        "data": "device",
        "per_device_batch_size": 32,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "strategy": "single",
        "world_size": 1,
        "gradient_accumulation_steps": 1,
        "memory_format": "contiguous",
        "compile": False,
        "input_shape": (3, 224, 224),
        "num_classes": 1000,
        "hidden_size": None,
        "learning_rate": 1e-5,
        "seed": 0,
        "data_dir": None,
        "num_generated_images": None,
        "num_loader_workers": None,
    } | changes
    case_id = (
        fields.pop("case_id", None) or f"{random.Random(repr(sorted(fields.items()))).getrandbits(48):012x}"
    )
    return Case(case_id=case_id, **fields)


def make_rank(
    step_time_ns: Sequence[int] = (10_000_000,) * 10,
    *,
    start_at_ns: int = 1_000_000_000,
    **changes: Any,
) -> RankResult:
    """One rank that measured ``step_time_ns`` in one window."""
    end_at_ns = start_at_ns + sum(step_time_ns)
    fields: dict[str, Any] = {
        "rank": 0,
        "outcome": "ok",
        "reason": None,
        "process_start_at_ns": 0,
        "ready_at_ns": 500_000_000,
        "finished_at_ns": end_at_ns + 100_000_000,
        "extra_passes_s": 0.0,
        "warmup_s": 0.4,
        "warmup_step_time_ns": tuple(step_time_ns[:3]),
        "warmup_end": "settled",
        "step_time_ns": tuple(step_time_ns),
        "windows": (Window(start_at_ns=start_at_ns, end_at_ns=end_at_ns, num_steps=len(step_time_ns)),)
        if step_time_ns
        else (),
        "stop_reason": "confidence-interval",
        "num_threads": 2,
        "first_loss": 6.9078,
        "last_loss": 6.8421,
    } | changes
    return RankResult(**fields)


def make_attempt(case: Case, attempt: int = 0, *ranks: RankResult, **changes: Any) -> AttemptResult:
    """One attempt; ``ok`` with :func:`make_rank`'s rank unless said otherwise."""
    fields: dict[str, Any] = {
        "case_id": case.case_id,
        "attempt": attempt,
        "outcome": "ok",
        "reason": None,
        "stderr_tail": None,
        "started_at": f"2026-01-05T12:00:{attempt:02d}+00:00",
        "duration_s": 8.5,
        "overhead_s": 2.75,
        "ranks": ranks or (make_rank(),),
        "devices": (),
        "host": None,
    } | changes
    return AttemptResult(**fields)


def make_communication(on_ms: float = 20.0, off_ms: float = 15.0, **changes: Any) -> Communication:
    """Six steps of each kind; the exposed time is known to 0.2 ms."""
    exposed_ns = round((on_ms - off_ms) * 1e6)
    fields: dict[str, Any] = {
        "num_steps_on": 6,
        "num_steps_off": 6,
        "step_time_on_ns": round(on_ms * 1e6),
        "step_time_off_ns": round(off_ms * 1e6),
        "exposed_ns": exposed_ns,
        "exposed_interval_ns": Interval(low=exposed_ns - 2e5, high=exposed_ns + 2e5),
        "bytes_per_step": 766_768_544,
        "bytes_formula": "2 (W - 1) / W x gradients in fp32",
    } | changes
    return Communication(**fields)


def make_all_reduce(rank: int) -> tuple[AllReduceRate, ...]:
    """Two bucket sizes; rank 1 saw the larger one reach 300 GB/s, rank 0 saw it reach 320."""
    return (
        AllReduceRate(num_bytes=4 << 20, bytes_per_s=40e9),
        AllReduceRate(num_bytes=25 << 20, bytes_per_s=320e9 - 20e9 * rank),
    )


def make_environment(device: str = "cuda") -> Environment:
    """An H100 machine, or a machine without a GPU."""
    gpu = device == "cuda"
    facts = DeviceFacts(
        index=0,
        name="NVIDIA H100 80GB HBM3",
        uuid=UUID,
        memory_total_bytes=85_520_809_984,
        compute_capability="9.0",
        num_multiprocessors=132,
        power_limit_w=700.0,
        default_power_limit_w=700.0,
        max_clock_sm_mhz=1980.0,
        max_clock_memory_mhz=2619.0,
        mig_enabled=False,
        ecc_enabled=True,
        persistence_mode=True,
        pcie_gen=5,
        pcie_width=16,
    )
    devices = (facts,) if gpu else ()
    return Environment(
        benchbox="0.1.0",
        device=device,
        driver="580.95.05" if gpu else None,
        host=HostFacts(
            cpu_model="Intel(R) Xeon(R) Platinum 8480C" if gpu else "AMD EPYC 7B13",
            num_physical_cores=8 if gpu else 1,
            num_usable_processors=16 if gpu else 2,
            memory_total_bytes=(128 if gpu else 8) * GIB,
            memory_limit_bytes=None,
            kernel="6.8.0-60-generic",
            os="Ubuntu 24.04.2 LTS",
            libc="glibc 2.39",
            governor=None,
            cpu_max_mhz=3800.0 if gpu else None,
            container="docker",
            virtual_machine=True,
        ),
        software=TorchFacts(
            python="3.12.11",
            torch="2.13.0+cu130" if gpu else "2.13.0+cpu",
            deepspeed="0.19.8",
            numpy="2.4.6",
            cuda="13.0" if gpu else None,
            cudnn="9.20.0" if gpu else None,
            nccl="2.29.3" if gpu else None,
            cpu_capability="AVX512" if gpu else "AVX2",
            has_mkldnn=True,
            num_threads=8 if gpu else 2,
            num_interop_threads=1,
            cudnn_benchmark=True,
            fp32_matmul_allows_tf32=False,
            fp32_cudnn_allows_tf32=False,
            cpu_flushes_denormals=True,
            devices=devices,
        ),
        devices=devices,
        host_allocator="tuned",
        worker_variables={"MALLOC_MMAP_THRESHOLD_": "4294967296", "OMP_NUM_THREADS": "8" if gpu else "2"},
    )


def make_profile(**changes: Any) -> HardwareProfile:
    """An H100 with what probes reached on it."""
    fields: dict[str, Any] = {
        "name": "H100-SXM5-80GB",
        "kind": "gpu",
        "vendor": "NVIDIA",
        "architecture": "Hopper GH100",
        "match_names": ("NVIDIA H100 80GB HBM3",),
        "sources": ("a datasheet",),
        "confidence": "high",
        "peak_dense_tflops": PrecisionRates(fp32=66.9, tf32=494.7, bf16=989.4, fp16=989.4, fp8=1978.9),
        "memory_gib": 80.0,
        "memory_bandwidth_gb_per_s": 3352.0,
        "reached": ReachedRates(
            matmul_tflops=PrecisionRates(fp32=51.2, tf32=371.0, bf16=702.0, fp16=688.0),
            conv_tflops=PrecisionRates(bf16=480.0),
            copy_gb_per_s=2810.0,
            host_to_device_gb_per_s=55.1,
        ),
    } | changes
    return HardwareProfile(**fields)


def make_suite(cases: Sequence[Case], **measure: Any) -> Suite:
    """A suite of ``cases`` with three repetitions unless said otherwise."""
    return Suite(
        name="quick",
        cases=tuple(cases),
        measure=MeasureSettings(**({"repetitions": 3} | measure)),
        order_seed=0,
    )


def make_device_samples(
    rank: RankResult, hz: float = 10.0, uuid: str = UUID, **changes: Any
) -> DeviceTelemetry:
    """Samples of a busy H100 over the rank's windows: 640 W with a little noise, and a matching counter."""
    rng = random.Random(rank.windows[0].start_at_ns)
    period = int(1e9 / hz)
    at_ns = tuple(
        at
        for window in rank.windows
        for at in range(window.start_at_ns + period // 3, window.end_at_ns, period)
    )
    count = len(at_ns)
    power_w = tuple(round(640 + rng.gauss(0, 6), 3) for _ in at_ns)
    fields: dict[str, Any] = {
        "memory_used_bytes": (int(5.61 * GIB),) * count,
        "utilization_gpu_pct": tuple(float(rng.choice((97, 98, 98, 99))) for _ in at_ns),
        "utilization_memory_pct": tuple(float(rng.choice((61, 62, 63))) for _ in at_ns),
        "power_w": power_w,
        "energy_j": tuple(round(1_000_000 + 640 * (at - at_ns[0]) / 1e9, 3) for at in at_ns),
        "temperature_c": (61.0,) * count,
        "clock_sm_mhz": (1755.0,) * count,
        "clock_memory_mhz": (2619.0,) * count,
        "throttle_reasons": (0,) * count,
        "power_limit_pct": (100.0,) * count,
        "sm_activity_pct": tuple(round(88 + rng.random(), 2) for _ in at_ns),
        "tensor_activity_pct": None,
        "num_foreign_processes": (0,) * count,
    } | changes
    return DeviceTelemetry(uuid=uuid, sample_at_ns=at_ns, **fields)


def _measured_attempt(case: Case, attempt: int, device: str, step_ms: float) -> AttemptResult:
    """An attempt whose steps scatter by 0.6 % for 0.6 s or more, on top of 0.3 % between attempts."""
    rng = random.Random(f"{case.case_id} {attempt}")
    level = step_ms * (1 + rng.gauss(0, 0.003))
    steps = [round(level * 1e6 * (1 + abs(rng.gauss(0, 0.006)))) for _ in range(max(10, int(600 / step_ms)))]
    ranks = [_measured_rank(case, attempt, number, device, level, steps) for number in range(case.world_size)]
    return make_attempt(
        case,
        attempt,
        *ranks,
        devices=tuple(make_device_samples(rank, uuid=rank.device_uuid or UUID) for rank in ranks)
        if device == "cuda"
        else (),
        host=HostTelemetry(
            sample_at_ns=(ranks[0].windows[0].start_at_ns + 1_000_000,),
            host_cpu_user_pct=(12.5,),
            load_1min=(1.04,),
        ),
    )


def _measured_rank(
    case: Case, attempt: int, number: int, device: str, level: float, steps: Sequence[int]
) -> RankResult:
    """Ranks wait for each other: each takes a microsecond more than the one before it. What they have to do
    takes 0.7 of a step, and on rank 1 of ``fsdp2`` 0.84."""
    gpu = device == "cuda"
    first = attempt == 0
    own_share = 0.84 if (case.strategy, number) == ("fsdp2", 1) else 0.7
    losses = (6.9071, 6.9044, 6.9012, 6.8987)
    return make_rank(
        [step + 1000 * number for step in steps],
        rank=number,
        local_rank=number,
        device_uuid=UUIDS[number] if gpu and case.strategy != "single" else None,
        optimizer="torch.optim.Adam(fused=True)" if case.strategy != "single" else None,
        communication=make_communication(level, own_share * level) if first and case.world_size > 1 else None,
        all_reduce=make_all_reduce(number) if first and case.world_size > 1 else (),
        start_at_ns=10_000_000_000 * (attempt + 1),
        warmup_end="settled" if case.data != "loader" else "step-cap",
        memory=WorkerMemory(
            peak_memory_allocated_bytes=int((3.6 + 0.0081 * case.per_device_batch_size) * GIB)
            if gpu
            else None,
            peak_memory_reserved_bytes=int((3.9 + 0.0102 * case.per_device_batch_size) * GIB)
            if gpu
            else None,
            peak_host_rss_bytes=int(3.4 * GIB),
        ),
        host_usage=HostUsage(
            cpu_user_s=sum(steps) / 1e9 * (0.97 if gpu else 1.91),
            cpu_kernel_s=sum(steps) / 1e9 * 0.06,
            minor_page_faults=1234,
            major_page_faults=0,
        ),
        phases=PhaseTimes(
            num_steps=5,
            input_wait_ns=round(level * 0.01e6),
            host_to_device_ns=0 if case.data == "device" else round(level * 0.05e6),
            forward_ns=round(level * 0.27e6),
            backward_ns=round(level * 0.51e6),
            optimizer_ns=round(level * 0.21e6),
        )
        if first
        else None,
        loss_check=LossCheck(
            losses=losses,
            digest="8f14e45fceea167a",
            reference_losses=None if case.model != "reference-cnn" else losses,
            tolerance_rel=0.02,
            agrees_with_fp32=None if case.model != "reference-cnn" else True,
            reason="no fp32 trajectory was recorded for this model"
            if case.model != "reference-cnn"
            else None,
        )
        if first
        else None,
        flops=Flops(
            model_flops_per_step=FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size,
            hardware_flops_per_step=FLOPS_PER_SAMPLE[case.model] * case.per_device_batch_size,
            num_parameters=NUM_PARAMETERS[case.model],
        ),
        num_threads=8 if gpu else 2,
    )


def make_report(device: str = "cuda", *, complete: bool = True, **measure: Any) -> Report:
    """Eight cases: five ``ok``, and one each of ``oom``, ``unsupported`` and ``invalid``."""
    slower = 1 if device == "cuda" else 60
    good = {
        make_case(): 14.2,
        make_case(per_device_batch_size=64): 23.9,
        make_case(per_device_batch_size=64, precision="bf16"): 7.88,
        make_case(
            per_device_batch_size=64,
            precision="bf16",
            gradient_checkpointing=True,
            memory_format="channels_last",
        ): 9.13,
        make_case(
            model="small-cnn",
            data="loader",
            per_device_batch_size=128,
            input_shape=(1, 28, 28),
            num_classes=10,
            num_loader_workers=2,
        ): 1.042,
    }
    bad = {
        make_case(per_device_batch_size=4096): (
            "oom",
            "CUDA out of memory: tried to allocate 23.91 GiB; 12.40 GiB of 79.65 GiB were free",
        ),
        make_case(per_device_batch_size=64, precision="bf16", compile=True): (
            "unsupported",
            "torch.compile needs a C compiler, and none was found",
        ),
        make_case(per_device_batch_size=64, precision="fp16"): (
            "invalid",
            "loss 4 is 7.31, plain fp32 has 6.90: 6 % apart, 2 % allowed",
        ),
    }
    attempts = [
        _measured_attempt(case, number, device, step_ms * slower)
        for case, step_ms in good.items()
        for number in range(3)
    ]
    attempts += [
        make_attempt(
            case,
            0,
            outcome=outcome,
            reason=reason,
            ranks=(),
            stderr_tail="Traceback (most recent call last):\n  ...\nRuntimeError: " + reason,
        )
        for case, (outcome, reason) in bad.items()
    ]
    if not complete:
        last = list(good)[-1].case_id
        attempts = [attempt for attempt in attempts if attempt.case_id != last or attempt.attempt == 0]
    suite = make_suite([*good, *bad], **measure)
    return build_report(
        suite,
        make_environment(device),
        attempts,
        make_profile() if device == "cuda" else None,
        complete=complete,
        created_at="2026-01-05T12:34:56+00:00",
        telemetry_cost=TelemetryCost(
            case_id=suite.cases[2].case_id,
            step_time_on_ns=7_893_000,
            step_time_off_ns=7_881_000,
            num_steps_on=200,
            num_steps_off=200,
            effect_pct=0.15,
            effect_pct_interval=Interval(low=-0.08, high=0.39),
            sampler_cpu_pct=0.62,
        ),
        controller_peak_rss_bytes=61_000_000,
    )


def make_ranks_report(device: str = "cuda", slow_rank: bool = True) -> Report:
    """Eight cases on two devices, among them a baseline for weak and one for strong scaling."""
    slower = 1 if device == "cuda" else 60
    good = {
        make_case(): 14.2,
        make_case(per_device_batch_size=64): 23.9,
        make_case(strategy="zero1"): 16.0,
        make_case(strategy="ddp", world_size=2): 17.75,
        make_case(strategy="zero1", world_size=2): 19.4,
        make_case(strategy="fsdp2" if slow_rank else "zero2", world_size=2): 21.2,
    }
    bad = {
        make_case(strategy="zero3-offload", world_size=2): (
            "unsupported",
            "DeepSpeedCPUAdam is compiled at first use, and no C++ compiler was found",
        ),
        make_case(strategy="ddp", world_size=4): ("unsupported", "needs 4 devices, this machine has 2"),
    }
    attempts = [
        _measured_attempt(case, number, device, step_ms * slower)
        for case, step_ms in good.items()
        for number in range(3)
    ]
    attempts += [
        make_attempt(case, 0, outcome=outcome, reason=reason, ranks=())
        for case, (outcome, reason) in bad.items()
    ]
    environment = make_environment(device)
    second = tuple(replace(facts, index=1, uuid=UUIDS[1]) for facts in environment.devices)
    return build_report(
        replace(make_suite([*good, *bad]), name="zero"),
        replace(environment, devices=(*environment.devices, *second)),
        attempts,
        make_profile() if device == "cuda" else None,
        complete=True,
        created_at="2026-01-05T12:34:56+00:00",
        telemetry_cost=None,
        controller_peak_rss_bytes=61_000_000,
    )


def golden_report() -> Report:
    """What ``tests/report/golden/report-v2.json`` holds: one case of each of three outcomes."""
    report = make_report()
    kept = (0, 5, 7)
    return replace(
        report,
        cases=tuple(report.cases[place] for place in kept),
        suite=replace(report.suite, cases=tuple(report.suite.cases[place] for place in kept)),
        telemetry_cost=replace(report.telemetry_cost, case_id=report.suite.cases[0].case_id),
    )


def hostile_report(text: str) -> Report:
    """A report in which ``text`` stands wherever a report holds text of the user's or the machine's."""
    report = make_report()
    case = replace(make_case(), model=text, data_dir=text)
    environment = replace(
        report.environment,
        driver=text,
        host=replace(report.environment.host, cpu_model=text, os=text, container=text),
        software=replace(report.environment.software, torch=text),
        devices=(replace(report.environment.devices[0], name=text),),
        worker_variables={text: text},
    )
    check = LossCheck(
        losses=(None,),
        digest=text,
        reference_losses=None,
        tolerance_rel=0.1,
        agrees_with_fp32=None,
        reason=text,
    )
    failed = replace(make_case(seed=1), model=text)
    suite = replace(make_suite([case, failed]), name=text)
    return build_report(
        suite,
        environment,
        [
            make_attempt(case, 0, make_rank(loss_check=check, flops_unknown_reason=text)),
            make_attempt(failed, 0, outcome="crashed", reason=text, stderr_tail=f"{text}\n{text}", ranks=()),
        ],
        make_profile(name=text),
        complete=False,
        created_at=text,
        telemetry_cost=replace(report.telemetry_cost, case_id=text),
        controller_peak_rss_bytes=1,
    )
