"""The journal: what is written stays, what is cut off is dropped, and what belongs elsewhere is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from benchbox.errors import BadInputError, ResumeError
from benchbox.measure.journal import Journal, check_same_environment, check_same_suite, read_journal
from benchbox.schema import (
    SCHEMA_VERSION,
    AttemptResult,
    Environment,
    Interval,
    JournalHeader,
    JournalLine,
    Suite,
    TelemetryCost,
)
from tests.factories import make_attempt, make_case, make_environment, make_suite

CASES = (make_case(), make_case(per_device_batch_size=64))
SUITE = make_suite(CASES)
HEADER = JournalHeader(schema_version=SCHEMA_VERSION, suite=SUITE, environment=make_environment())
ATTEMPTS = [
    make_attempt(CASES[0]),
    make_attempt(CASES[1], outcome="crashed", reason="line\nbreak \u2028 ✗", stderr_tail="\t…", ranks=()),
    make_attempt(CASES[0], 1),
]
COST = TelemetryCost(
    case_id=CASES[0].case_id,
    step_time_on_ns=2,
    step_time_off_ns=1,
    num_steps_on=1,
    num_steps_off=1,
    effect_pct=100.0,
    effect_pct_interval=Interval(low=1.0, high=199.0),
    sampler_cpu_pct=0.5,
)


def write(path: Path, attempts: list[AttemptResult], *, cost: TelemetryCost | None = None) -> None:
    journal = Journal(path)
    journal.start_anew(HEADER)
    for attempt in attempts:
        journal.append(JournalLine(attempt=attempt))
    if cost is not None:
        journal.append(JournalLine(telemetry_cost=cost))
    journal.close()


def append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_what_was_written_is_read_again(path: Path) -> None:
    write(path, ATTEMPTS, cost=COST)
    finished = read_journal(path)
    assert finished.header == HEADER
    assert finished.attempts == ATTEMPTS
    assert finished.telemetry_cost == COST


def test_each_line_is_on_the_disk_before_the_next_is_written(path: Path) -> None:
    journal = Journal(path)
    journal.start_anew(HEADER)
    for number, attempt in enumerate(ATTEMPTS, start=1):
        journal.append(JournalLine(attempt=attempt))
        assert read_journal(path).attempts == ATTEMPTS[:number]
    journal.close()


def test_starting_anew_drops_what_was_there(path: Path) -> None:
    write(path, ATTEMPTS)
    write(path, [])
    assert read_journal(path).attempts == []


def test_an_empty_journal_holds_nothing(path: Path) -> None:
    path.touch()
    assert read_journal(path).header is None


def test_a_last_line_that_was_cut_off_is_dropped_and_cut_and_writing_goes_on(path: Path) -> None:
    write(path, ATTEMPTS[:2])
    whole = path.read_bytes()
    append(path, b'{"attempt":{"case_id":"')
    assert read_journal(path).attempts == ATTEMPTS[:2]
    assert path.read_bytes() == whole
    journal = Journal(path)
    journal.append(JournalLine(attempt=ATTEMPTS[2]))
    journal.close()
    assert read_journal(path).attempts == ATTEMPTS


WHOLE = b"".join(
    msgspec.json.encode(line) + b"\n"
    for line in (JournalLine(header=HEADER), *(JournalLine(attempt=attempt) for attempt in ATTEMPTS))
)


@given(st.integers(0, len(WHOLE)))
def test_a_cut_at_any_byte_loses_no_line_that_was_whole_before_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.write_bytes(WHOLE[:cut])
    num_whole = WHOLE[:cut].count(b"\n")
    finished = read_journal(path)
    assert finished.attempts == ATTEMPTS[: max(num_whole - 1, 0)]
    assert (finished.header == HEADER) == (num_whole > 0)
    assert path.read_bytes() == WHOLE[: WHOLE.rfind(b"\n", 0, cut) + 1]


ELSEWHERE = make_attempt(make_case(seed=7))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", "line 2: "),
        (b'{"attempt":{"case_id":"', "line 2: "),
        (b'{"attempt":{"case_id":1}}', "`int` - at `$.attempt.case_id`"),
        (b'{"attempts":[]}', "unknown field `attempts`"),
        (b"\xff\xfe", "line 2: "),
        (b"[" * 100_000, "line 2: "),
        (msgspec.json.encode(JournalLine(header=HEADER)), "the header belongs at the start"),
        (msgspec.json.encode(JournalLine(attempt=ELSEWHERE)), "is not in the suite"),
        (
            msgspec.json.encode(JournalLine(attempt=replace(ATTEMPTS[0], ranks=()))),
            "no step was measured",
        ),
    ],
)
def test_a_whole_line_that_cannot_be_used_is_refused_by_its_number(
    path: Path, line: bytes, told: str
) -> None:
    write(path, [])
    append(path, line + b"\n")
    append(path, msgspec.json.encode(JournalLine(attempt=ATTEMPTS[0])) + b"\n")
    before = path.read_bytes()
    with pytest.raises(BadInputError) as raised:
        read_journal(path)
    assert str(raised.value).startswith(f"{path}: line 2: ")
    assert told in str(raised.value)
    assert str(raised.value).endswith("start anew with --force")
    assert path.read_bytes() == before


def test_a_journal_without_its_header_is_refused(path: Path) -> None:
    append(path, msgspec.json.encode(JournalLine(attempt=ATTEMPTS[0])) + b"\n")
    with pytest.raises(BadInputError, match="line 1: the header belongs at the start"):
        read_journal(path)


def changed_suite(**changes: Any) -> tuple[Suite, Environment]:
    return replace(SUITE, **changes), HEADER.environment


def changed_environment(part: str, **changes: Any) -> tuple[Suite, Environment]:
    changed = replace(getattr(HEADER.environment, part), **changes)
    return SUITE, replace(HEADER.environment, **{part: changed})


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (
            changed_suite(measure=replace(SUITE.measure, repetitions=5)),
            "`suite.measure.repetitions` was 3 and is now 5",
        ),
        (changed_suite(name="slow"), "`suite.name` was 'quick' and is now 'slow'"),
        (changed_suite(order_seed=4), "`suite.order_seed` was 0 and is now 4"),
        (changed_suite(cases=CASES[:1]), f"`suite.cases.{CASES[1].case_id}` is gone"),
        (
            changed_suite(cases=(*CASES, extra := make_case(seed=1))),
            f"`suite.cases.{extra.case_id}` is new",
        ),
        (
            changed_environment("software", torch="2.11.0"),
            "`environment.software.torch` was '2.13.0+cu130' and is now '2.11.0'",
        ),
        (
            changed_environment("host", governor="powersave"),
            "`environment.host.governor` was None and is now 'powersave'",
        ),
        (
            (SUITE, replace(HEADER.environment, worker_variables={"OMP_NUM_THREADS": "4"})),
            "`environment.worker_variables.OMP_NUM_THREADS` was '8' and is now '4'",
        ),
        (
            (SUITE, replace(HEADER.environment, devices=(), device="cpu")),
            "`environment.device` was 'cuda' and is now 'cpu'; `environment.devices[0]` is gone",
        ),
        (
            (
                SUITE,
                replace(
                    HEADER.environment,
                    devices=(replace(HEADER.environment.devices[0], power_limit_w=500.0),),
                ),
            ),
            "`environment.devices[0].power_limit_w` was 700.0 and is now 500.0",
        ),
    ],
)
def test_another_suite_or_environment_is_refused_by_the_field_that_differs(
    path: Path, now: tuple[Suite, Environment], told: str
) -> None:
    def check() -> None:
        check_same_suite(HEADER, now[0], path)
        check_same_environment(HEADER, now[1], path)

    with pytest.raises(ResumeError) as raised:
        check()
    assert str(raised.value).startswith(f"{path}: cannot resume, ")
    assert told in str(raised.value)
    assert "--force" in str(raised.value)


def test_many_differences_are_counted_and_not_all_listed(path: Path) -> None:
    other = replace(SUITE, name="a", order_seed=9, measure=replace(SUITE.measure, repetitions=1))
    with pytest.raises(ResumeError, match="and 1 more"):
        check_same_suite(HEADER, replace(other, cases=CASES[:1]), path)


def test_the_order_of_cases_in_the_file_is_no_difference(path: Path) -> None:
    check_same_suite(HEADER, replace(SUITE, cases=CASES[::-1]), path)


def test_a_journal_of_another_schema_is_refused(path: Path) -> None:
    with pytest.raises(ResumeError, match=f"written with schema 7, not {SCHEMA_VERSION}"):
        check_same_suite(replace(HEADER, schema_version=7), SUITE, path)


def test_two_runs_in_one_folder_are_refused_and_the_first_is_not_touched(path: Path) -> None:
    first = Journal(path)
    first.start_anew(HEADER)
    before = path.read_bytes()
    with pytest.raises(ResumeError, match="another benchbox run is writing there"):
        Journal(path)
    assert path.read_bytes() == before
    first.close()
    Journal(path).close()
