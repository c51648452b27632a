from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.analyze.grade import OUTDONE, grade, read_precision
from benchbox.analyze.predict_fit import Seen, believe, log_ratio, weigh_witnesses
from benchbox.analyze.predict_groups import batch_curve, rate_at_batch, software_factor
from benchbox.analyze.predict_interval import (
    USUAL_RESIDUAL,
    log_half_widths,
    step_between,
    step_kind,
)
from benchbox.analyze.predict_model import Family, Workload, grid, log_rates, model_family
from benchbox.analyze.predict_rates import DeviceRates, RatePrecision, device_rates, link_gb_per_s
from benchbox.errors import BadInputError
from benchbox.plan.hardware import load_profiles
from benchbox.plan.throughput_table import read_throughput_table
from benchbox.schema import (
    GradedPair,
    GradeResult,
    HardwareProfile,
    PrecisionRates,
    ReachedRates,
    ThroughputRow,
)
from tests.tables import FIELDS, GPUS, profile, row, synthetic_rows, true_rate, write_table

PROFILES = load_profiles([])


def graded(rows: list[dict], folder: Path) -> GradeResult:
    table = read_throughput_table(write_table(folder / "table.csv", rows))
    return grade("table.csv", table.rows, table.left_out, PROFILES)


def rates(name: str) -> DeviceRates:
    found = device_rates(profile(name), "fp16")
    assert isinstance(found, DeviceRates)
    return found


@pytest.mark.parametrize(
    ("gpus", "others"), [(["T4"], ""), (["T4", "NOPE"], "1 more for 1 other reason"), ([], "no two devices")]
)
def test_a_table_with_nothing_to_grade_says_why_and_how_much_more_there_is(
    gpus: list[str], others: str, tmp_path: Path
) -> None:
    rows = [*(row("L40S", rate) for rate in ([-1, -2] if gpus else [1])), *(row(gpu, 1) for gpu in gpus)]
    with pytest.raises(BadInputError, match=r"^table\.csv: nothing to grade: .*") as caught:
        graded(rows, tmp_path)
    assert others in str(caught.value)
    assert ("2 rows left out: `throughput_samples_per_s`" in str(caught.value)) == bool(gpus)


def test_rates_that_follow_two_rooflines_are_foretold_well(tmp_path: Path) -> None:
    result = graded(synthetic_rows(), tmp_path)
    assert result.overall.num_pairs == 6 * len(GPUS) * (len(GPUS) - 1)
    assert result.overall.median_pct < 10
    assert result.overall.median_pct < result.naive_bandwidth.median_pct / 1.5
    assert result.overall.median_pct < result.naive_peak_flops.median_pct / 1.5
    assert result.overall.coverage_pct > 75


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_intervals_hold_on_tables_that_they_were_not_set_on(seed: int, tmp_path: Path) -> None:
    assert 75 <= graded(synthetic_rows(seed=seed), tmp_path).overall.coverage_pct <= 90


def test_the_target_is_left_out_of_what_its_prediction_rests_on(tmp_path: Path) -> None:
    """Whatever the target's own rate is, in whatever precision, the prediction of it stays the same."""
    rows = synthetic_rows() + [
        row(gpu, true_rate(gpu, 0.5) / 2, model="net1", precision="bf16") for gpu in GPUS if "V100" not in gpu
    ]

    def predictions(factor: float) -> dict[tuple[str, ...], tuple[float, float, float]]:
        changed = [
            one | {"throughput_samples_per_s": one["throughput_samples_per_s"] * factor}
            if one["gpu"] == "RTX 3090"
            else one
            for one in rows
        ]
        pairs = [pair for pair in graded(changed, tmp_path).pairs if pair.target == "RTX 3090"]
        assert pairs
        return {(p.model, p.precision, p.source): (p.predicted, p.low, p.high) for p in pairs}

    assert predictions(1.0) == predictions(7.3)


def test_witnesses_tell_how_the_work_is_divided(tmp_path: Path) -> None:
    """H100 over A100 is 3.2 for matrix products and 1.6 for bytes: the others say which it is."""

    def ratio(share: float, others: tuple[str, ...]) -> float:
        rows = [row(gpu, true_rate(gpu, share)) for gpu in ("A100-SXM4-80GB", "H100-SXM5-80GB", *others)]
        pair = next(
            p
            for p in graded(rows, tmp_path).pairs
            if (p.source, p.target) == ("A100-SXM4-80GB", "H100-SXM5-80GB")
        )
        return pair.predicted / true_rate("A100-SXM4-80GB", share)

    alone = ratio(0.95, ())
    assert ratio(0.95, ()) == pytest.approx(ratio(0.05, ()))
    witnesses = ("RTX 3090", "RTX A6000", "V100-SXM2-32GB", "L40S")
    assert ratio(0.95, witnesses) > 1.1 * alone > 1.1 * ratio(0.05, witnesses)


def test_intervals_widen_with_what_is_not_known(tmp_path: Path) -> None:
    def width(**changes: object) -> float:
        rows = [row(gpu, true_rate(gpu, 0.5), **changes) for gpu in GPUS]
        pairs = graded(rows, tmp_path).pairs
        return sum(math.log(pair.high / pair.low) for pair in pairs) / len(pairs)

    assert width(precision="mlperf-mixed(fp16)") < width() < width(software="")


def test_an_odd_source_announces_itself(tmp_path: Path) -> None:
    def pairs_with(factor: float) -> tuple[GradedPair, ...]:
        rows = [row(gpu, true_rate(gpu, 0.3) / (factor if gpu == "RTX A6000" else 1)) for gpu in GPUS]
        return graded(rows, tmp_path).pairs

    def mean_width(source: str, factor: float) -> float:
        widths = [math.log(pair.high / pair.low) for pair in pairs_with(factor) if pair.source == source]
        return sum(widths) / len(widths)

    odd = mean_width("RTX A6000", 1.8)
    assert odd > 2 * mean_width("RTX A6000", 1.0)
    assert odd > max(mean_width(gpu, 1.8) for gpu in GPUS if gpu != "RTX A6000")
    assert "RTX A6000" not in {pair.source for pair in pairs_with(4.0)}


def test_pairs_without_evidence_are_refused_with_the_run_that_would_settle_it(tmp_path: Path) -> None:
    rows = [
        row("H100-SXM5-80GB", 1000),
        row("A100-SXM4-80GB", 600, n_gpus=1, batch_per_gpu=2),
        row("MI300X", 900),
        row("L40S", 3000, n_gpus=8),
    ]
    result = graded([*rows, *synthetic_rows()], tmp_path)
    reasons = {entry.reason: entry for entry in result.pairs_refused}
    assert any("different vendors" in reason for reason in reasons)
    assert any("like number of devices" in reason for reason in reasons)
    assert any("batches differ" in reason for reason in reasons)
    assert all(entry.settled_by and entry.example for entry in reasons.values())
    assert not [p for p in result.pairs if "MI300X" in (p.source, p.target)]


def test_contradicting_witnesses_are_refused(tmp_path: Path) -> None:
    rng = [1, 30, 0.1, 12, 0.4, 5, 1]
    rows = [row(gpu, 100 * factor) for gpu, factor in zip(GPUS, rng, strict=True)]
    result = graded([*rows, *synthetic_rows()], tmp_path)
    assert any("contradict" in entry.reason for entry in result.pairs_refused)


def test_rows_twice_count_as_their_geometric_mean(tmp_path: Path) -> None:
    once = graded([row("A100-SXM4-80GB", 600), row("H100-SXM5-80GB", 1000)], tmp_path)
    twice = graded(
        [row("A100-SXM4-80GB", 450), row("A100-SXM4-80GB", 800), row("H100-SXM5-80GB", 1000)], tmp_path
    )
    assert [p.predicted for p in twice.pairs] == pytest.approx([p.predicted for p in once.pairs])


def test_rows_of_one_cell_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    result = graded(
        [row("RTX 3090", 100), row("RTX 3090", 201), *synthetic_rows(), row("A100-SXM4-80GB", 500)], tmp_path
    )
    entry = next(one for one in result.rows_left_out if "differ by more than a factor of 2" in one.reason)
    assert (entry.num, entry.example) == (2, "resnet50, fp16 on 1 x RTX 3090")
    assert result.num_rows_graded == result.num_rows - 2


def test_rows_are_left_out_where_fewer_of_the_same_device_did_more(tmp_path: Path) -> None:
    """Of 1, 2, 4 and 8 the four did less than two, and 16 as much as 8; without a batch nothing is said."""
    scaling = {1: 100, 2: 190, 4: 150, 8: 400, 16: 400}
    rows = [row("RTX 3090", rate, n_gpus=n) for n, rate in scaling.items()]
    rows.append(row("RTX 3090", 160, n_gpus=4))
    unstated = [row("L40S", rate, n_gpus=n, batch_per_gpu="", model="other") for n, rate in scaling.items()]
    result = graded([*rows, *unstated, *synthetic_rows(), row("A100-SXM4-80GB", 120)], tmp_path)
    entry = next(one for one in result.rows_left_out if one.reason == OUTDONE)
    assert (entry.num, entry.example) == (3, "resnet50, fp16 on 4 x RTX 3090")
    assert result.num_rows_graded == result.num_rows - 3


def test_a_witness_of_the_targets_own_architecture_narrows_the_interval(tmp_path: Path) -> None:
    def half(witness: str) -> float:
        rows = [
            row(gpu, true_rate(gpu, 0.5)) for gpu in ("A100-SXM4-80GB", "V100-SXM2-32GB", "L40S", witness)
        ]
        pairs = graded(rows, tmp_path).pairs
        pair = next(p for p in pairs if (p.source, p.target) == ("A100-SXM4-80GB", "V100-SXM2-32GB"))
        return math.log(pair.high / pair.low)

    assert half("V100-SXM2-16GB") < 0.75 * half("L40")


def test_an_architecture_that_no_witness_has_is_expected_to_fall_short(tmp_path: Path) -> None:
    def foretold(gpu: str, *witnesses: str) -> GradedPair:
        rows = [row(one, true_rate(one, 0.5)) for one in ("A100-SXM4-80GB", gpu, *witnesses)]
        return next(p for p in graded(rows, tmp_path).pairs if p.target == gpu and "A100" in p.source)

    unknown = foretold("L40S", "V100-SXM2-32GB", "H100-SXM5-80GB")
    known = foretold("L40S", "V100-SXM2-32GB", "L40")
    assert unknown.high / unknown.low > known.high / known.low
    # Without a witness of its own only the prior and the shortfall speak: A100 to the like of an A100.
    belief = believe(weigh_witnesses(Workload("convolution", "fp16", 100.0), []), [])
    same = (rates("A100-SXM4-40GB"), 1)
    unfamiliar = step_between(belief, same, same, tuned=False)
    assert (unfamiliar.familiar, unfamiliar.middle < 0) == (False, True)
    knowing = belief._replace(architectures=frozenset({same[0].architecture}))
    told = step_between(knowing, same, same, tuned=False)
    assert (told.familiar, told.middle) == (True, 0)
    # Whoever tunes for a device knows its architecture.
    assert step_between(belief, same, same, tuned=True).middle == 0


def test_an_interval_reaches_further_down_but_less_so_where_software_was_tuned(tmp_path: Path) -> None:
    def reach(**changes: str) -> tuple[float, float]:
        devices = ("A100-SXM4-80GB", "L40S", "V100-SXM2-32GB", "H100-SXM5-80GB")
        rows = [row(gpu, true_rate(gpu, 0.5), **changes) for gpu in devices]
        pair = next(p for p in graded(rows, tmp_path).pairs if p.target == "L40S" and "A100" in p.source)
        return math.log(pair.predicted / pair.low), math.log(pair.high / pair.predicted)

    down, up = reach()
    assert down > 1.5 * up
    tuned_down, tuned_up = reach(software="MLPerf v4.0")
    assert tuned_down / tuned_up == pytest.approx(down / up / 1.5)
    assert tuned_down < down


def test_one_or_two_witnesses_never_exclude_half(tmp_path: Path) -> None:
    def reach_down(source: str, target: str, *others: str, **changes: str) -> float:
        rows = [row(gpu, true_rate(gpu, 0.5), **changes) for gpu in (source, target, *others)]
        pairs = graded(rows, tmp_path).pairs
        pair = next(p for p in pairs if (p.source, p.target) == (source, target))
        return pair.predicted / pair.low

    far = ("A100-SXM4-80GB", "H100-SXM5-80GB")
    # by the root of the sum of the squares: half, and how far they scatter besides
    assert 2 < reach_down(*far, "L40S") < 2.2
    assert reach_down(*far, "L40S", "V100-SXM2-32GB", "RTX 3090") < 2
    assert reach_down(*far, "L40S", software="MLPerf v4.0") < 2
    near = ("A100-SXM4-80GB", "A100-SXM4-40GB")
    assert reach_down(*near, "L40S") < 2
    assert reach_down(*near, "L40S", software="see README") >= 2


def test_few_architectures_leave_a_wider_interval_though_they_agree_as_well() -> None:
    pair = ((rates("A100-SXM4-40GB"), 1), (rates("L40S"), 1))
    belief = believe(weigh_witnesses(Workload("convolution", "fp16", 1e6), []), [])
    step = step_between(belief, *pair, tuned=False)

    def width(num_architectures: int, spread: float = 0.0) -> float:
        seen = belief._replace(
            architectures=frozenset(map(str, range(num_architectures))),
            squared_residuals=(num_architectures - 1) * USUAL_RESIDUAL**2,
        )
        return sum(
            log_half_widths(
                seen,
                step._replace(spread=spread, waiting=0.0),
                usual_residual=USUAL_RESIDUAL,
                software_factor=1.0,
                batch_factor=1.0,
            )
        )

    widths = [width(number) for number in range(1, 6)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.25 * widths[-1]
    # One architecture tells no division from another: all of their spread stays.
    added = [math.sqrt(width(number, 0.3) ** 2 - width(number) ** 2) for number in (1, 2)]
    assert added[0] == pytest.approx(2 * added[1])


def test_devices_of_one_architecture_agree_for_free(tmp_path: Path) -> None:
    """Four A100 say nothing more about an RTX 3090 than one does."""

    def half(*witnesses: str) -> float:
        rows = [row(gpu, true_rate(gpu, 0.5)) for gpu in ("RTX 3090", *witnesses)]
        pairs = graded(rows, tmp_path).pairs
        pair = next(p for p in pairs if (p.source, p.target) == ("A100-SXM4-80GB", "RTX 3090"))
        return math.log(pair.high / pair.predicted)  # down, few of any kind reach to half

    few = half("A100-SXM4-80GB", "A100-SXM4-40GB")
    same = half("A100-SXM4-80GB", "A100-SXM4-40GB", "A100-PCIe-40GB", "A100-PCIe-80GB")
    other = half("A100-SXM4-80GB", "A100-SXM4-40GB", "H100-SXM5-80GB", "L40S")
    assert other < same
    assert same > 0.9 * few


def test_cards_without_peer_access_share_what_the_host_carries() -> None:
    card, board = rates("RTX 3090"), rates("RTX A6000")
    assert card.link_among(8) == pytest.approx(card.link_among(2) / 4)
    assert board.link_among(8) == board.link_among(2)


def test_many_cards_without_peer_access_are_refused_or_said_to_be_uncertain(tmp_path: Path) -> None:
    def halves(count: int) -> float:
        rows = [
            row(gpu, count * true_rate(gpu, 0.5), n_gpus=count, model="bert_large", batch_per_gpu=16)
            for gpu in GPUS
        ]
        pairs = [p for p in graded([*rows, *synthetic_rows()], tmp_path).pairs if p.model == "bert_large"]
        mine = [math.log(p.high / p.low) for p in pairs if p.target == "RTX 3090"]
        return min(mine, default=math.inf)

    assert halves(8) > 1.5 * halves(1)


def test_a_smaller_batch_than_any_that_was_measured_widens_more_than_a_larger_one(tmp_path: Path) -> None:
    def half(source_batch: float | str) -> float:
        rows = [
            # A step as long as at 64, so that the host has the same share of it.
            row("A100-SXM4-80GB", 600 / 64 * (source_batch or 64), batch_per_gpu=source_batch),
            row("H100-SXM5-80GB", 1000, batch_per_gpu=64),
        ]
        pair = next(p for p in graded(rows, tmp_path).pairs if p.target == "H100-SXM5-80GB")
        return math.log(pair.high / pair.low)

    assert half(64) < half(16) < half(256)
    assert half(64) < half("")


def test_a_rate_in_an_unnamed_unit_is_left_out(tmp_path: Path) -> None:
    rows = [{**one, "unit": "see source" if one["gpu"] == "L40S" else "images/s"} for one in synthetic_rows()]
    table = read_throughput_table(write_table(tmp_path / "t.csv", rows, [*FIELDS, "unit"]))
    assert [(entry.reason, entry.num) for entry in table.left_out] == [
        ("`unit` does not say what is counted", 6)
    ]


def test_a_batch_between_two_measured_ones_is_interpolated() -> None:
    curve = batch_curve({8.0: math.log(100), 32.0: math.log(200)})
    rate, beyond = rate_at_batch(curve, 16.0)
    assert math.exp(rate) == pytest.approx(math.sqrt(100 * 200))
    assert beyond == 1
    rate, beyond = rate_at_batch(curve, 64.0)
    assert (math.exp(rate), beyond) == pytest.approx((200, 2))
    assert rate_at_batch(curve, 8.0) == pytest.approx((math.log(100), 1.0))
    assert rate_at_batch(curve, 2.0) == pytest.approx((math.log(100), 0.25))
    assert rate_at_batch(batch_curve({None: 3.0}), 8.0) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("wording", "precision"),
    [
        ("fp32", "fp32"),
        ("fp32/tf32-default", "tf32"),
        ("amp-fp16", "fp16"),
        ("AMP", "fp16"),
        ("mixed", "fp16"),
        ("mlperf-mixed(fp16)", "fp16"),
        ("amp_bf16", "bf16"),
        ("bf16-mixed", "bf16"),
        ("tf32+amp-fp16", "fp16"),
        ("mixed fp16/fp32", "fp16"),
        ("torch.float16", "fp16"),
        ("fp32(tf32 status unknown)", "tf32"),
        ("fp32 (no AMP)", "fp32"),
        ("fp32, example", "fp32"),
        ("fp32 (tf32 off)", "fp32"),
        ("fp32, allow_tf32=False", "fp32"),
        ("fp32 without mixed precision", "fp32"),
        ("single precision", "fp32"),
        ("fp16, single GPU", "fp16"),
        ("no amp", None),
        ("bf16 and fp16", None),
        ("fp32 or fp16", None),
        ("fp32, amp", None),
        ("halfway", None),
        ("amp?", None),
        ("unstated", None),
        ("amp_fp8", None),
    ],
)
def test_precisions_are_read_as_tables_word_them(wording: str, precision: str | None) -> None:
    reason, found = read_precision(wording)
    assert found == precision
    assert bool(reason) == (precision is None)


def test_families_by_name() -> None:
    assert model_family("ResNet-50 v1.5") == "convolution"
    assert model_family("bert_large_squad") == "transformer"
    assert model_family("resnet50") == "convolution"
    assert model_family("t5-base") == "transformer"
    assert model_family("flan_t5_xl") == "transformer"
    assert model_family("Llama-2-7b") == "language model"
    assert model_family("MPT-1b") == "language model"
    assert model_family("waveglow") == "other"
    assert model_family("something") == "other"
    for name in (
        "densenetblur121d",
        "regnety_002",
        "ssd300",
        "mask_rcnn_R_50",
        "UNet_3D",
        "res2next50",
        "cnn",
    ):
        assert model_family(name) == "convolution"
    for name in ("presentation", "address", "detr", "networking", "activity", "Bartholomew", "masking"):
        assert model_family(name) == "other"


def test_tuned_software_leaves_less_and_unstated_software_more() -> None:
    def factor(**changes: str) -> float:
        table_row = row("T4", 1.0, **changes)

        return software_factor(
            ThroughputRow(
                model="m",
                gpu="T4",
                num_devices=1,
                precision=table_row["precision"],
                batch_per_device=None,
                samples_per_second=1.0,
                software=table_row["software"],
                source=table_row["source"],
            )
        )

    assert factor(source="mlcommons/training_results_v3.0") < factor() < factor(software="(see README)")
    assert factor(software="") == factor(software="torch ~1.4")


def test_nvlink_is_never_assumed_of_a_card() -> None:
    on_board, bridged = profile("A100-SXM4-80GB"), profile("A100-PCIe-80GB")
    assert bridged.nvlink_gb_per_s == on_board.nvlink_gb_per_s
    assert link_gb_per_s(on_board) > 10 * link_gb_per_s(bridged)
    assert link_gb_per_s(profile("RTX 3090")) < link_gb_per_s(profile("RTX A6000"))


def test_less_power_means_lower_sustained_rates() -> None:
    assert rates("A100-PCIe-40GB").compute_tflops < rates("A100-SXM4-40GB").compute_tflops
    assert rates("A100-PCIe-40GB").bandwidth_gb_per_s == rates("A100-SXM4-40GB").bandwidth_gb_per_s


def test_what_a_profile_lacks_is_said() -> None:
    assert "fp16" in str(device_rates(profile("RTX PRO 6000 Blackwell"), "fp16"))
    assert "bf16" in str(device_rates(profile("V100-SXM2-16GB"), "bf16"))
    no_bandwidth = replace(profile("T4"), memory_bandwidth_gb_per_s=None)
    assert "bandwidth" in str(device_rates(no_bandwidth, "fp16"))
    tf32 = device_rates(profile("V100-SXM2-16GB"), "tf32")
    assert isinstance(tf32, DeviceRates)
    assert tf32.peak_tflops == 15.7


def test_kinds_of_steps() -> None:
    assert step_kind(rates("A100-SXM4-40GB"), rates("A100-PCIe-80GB")) == "same chip"
    assert step_kind(rates("A100-SXM4-40GB"), rates("H100-SXM5-80GB")) == "same memory class"
    assert step_kind(rates("A100-SXM4-40GB"), rates("RTX 3090")) == "HBM to GDDR"
    assert step_kind(rates("A100-SXM4-40GB"), rates("B200-SXM-180GB")) == "new architecture"


@settings(max_examples=200)
@given(
    facts=st.sampled_from([one for one in PROFILES if one.kind == "gpu"]),
    precision=st.sampled_from(["fp32", "tf32", "bf16", "fp16"]),
    family=st.sampled_from(["convolution", "transformer", "language model", "other"]),
    step_ms=st.floats(1, 5000),
    host_ms=st.floats(0, 100),
    num_devices=st.integers(1, 64),
    factor=st.floats(1, 8),
    share=st.none() | st.floats(0.2, 1),
)
def test_a_device_with_more_of_everything_is_never_slower(
    facts: HardwareProfile,
    precision: RatePrecision,
    family: Family,
    step_ms: float,
    host_ms: float,
    num_devices: int,
    factor: float,
    share: float | None,
) -> None:
    """Of every division of the work; with ``share`` both were probed, and reached that much of the peaks."""

    def times(more: float) -> DeviceRates | str:
        peaks = {
            name: peak and peak * more
            for name in ("fp32", "tf32", "bf16", "fp16")
            for peak in [getattr(facts.peak_dense_tflops, name)]
        }
        bandwidth = facts.memory_bandwidth_gb_per_s and facts.memory_bandwidth_gb_per_s * more
        reached = None
        if share is not None and bandwidth is not None:
            matmul = PrecisionRates(**{name: peak and peak * share for name, peak in peaks.items()})
            reached = ReachedRates(
                matmul_tflops=matmul, conv_tflops=PrecisionRates(), copy_gb_per_s=bandwidth * share
            )
        changed = replace(
            facts,
            peak_dense_tflops=PrecisionRates(**peaks),
            memory_bandwidth_gb_per_s=bandwidth,
            reached=reached,
        )
        return device_rates(changed, precision, probes="used")

    one, two = times(1.0), times(factor)
    if isinstance(one, str):
        assert one == two
        return
    assert isinstance(two, DeviceRates)
    work = Workload(family, precision, step_ms, host_ms)
    division = grid(num_devices > 1)
    slow, fast = (log_rates(division, work, each, num_devices) for each in (one, two))
    assert (fast >= slow - 1e-12).all()


def test_no_witness_leaves_the_prior() -> None:
    work = Workload("convolution", "fp16", 100.0)
    belief = believe(weigh_witnesses(work, [Seen(rates("T4"), 1, 32, 5.0)]), [])
    middle, spread = log_ratio(belief, (rates("T4"), 1), (rates("H100-SXM5-80GB"), 1))
    assert 4 < math.exp(middle) < 25
    assert spread > 0
    assert log_ratio(belief, (rates("T4"), 1), (rates("T4"), 1)) == (0, 0)


def test_every_pair_has_its_measured_rate_and_a_positive_interval(tmp_path: Path) -> None:
    for pair in graded(synthetic_rows(), tmp_path).pairs:
        assert isinstance(pair, GradedPair)
        assert pair.low < pair.predicted < pair.high


def test_probed_rates_count_only_where_they_are_asked_for() -> None:
    reached = ReachedRates(
        matmul_tflops=PrecisionRates(fp16=200.0), conv_tflops=PrecisionRates(), copy_gb_per_s=1350
    )
    probed = replace(profile("A100-SXM4-40GB"), reached=reached)
    assert device_rates(probed, "fp16") == rates("A100-SXM4-40GB")
    own = device_rates(probed, "fp16", probes="used")
    assert isinstance(own, DeviceRates)
    assert (own.compute_tflops, own.bandwidth_gb_per_s) == (200.0, pytest.approx(1500))


def test_a_probe_that_falls_short_of_the_expectation_caps_it() -> None:
    expected = rates("A100-SXM4-40GB")

    def capped(matmul: float, copy: float) -> DeviceRates:
        reached = ReachedRates(
            matmul_tflops=PrecisionRates(fp16=matmul), conv_tflops=PrecisionRates(), copy_gb_per_s=copy
        )
        found = device_rates(replace(profile("A100-SXM4-40GB"), reached=reached), "fp16", probes="a cap")
        assert isinstance(found, DeviceRates)
        return found

    assert capped(1000, 5000) == expected
    slow = capped(150, 900)
    assert (slow.compute_tflops, slow.bandwidth_gb_per_s) == (150, pytest.approx(1000))
