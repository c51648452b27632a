"""Which case of one report is which case of another, and then the whole comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

import benchbox
from benchbox.analyze.compare import FALSE_ALARM, THRESHOLD_LEVEL, Pair, compare_cases
from benchbox.analyze.evidence import CaseEvidence, report_evidence
from benchbox.analyze.identity import (
    axes_of,
    environment_differences,
    meaning,
    same_case_twice,
    settings_differences,
    workload_difference,
)
from benchbox.schema import SCHEMA_VERSION, Case, Report
from benchbox.schema.comparison import (
    CaseComparison,
    ComparedReport,
    Comparison,
    IdentityDifference,
    Thresholds,
)

REPORTS_DIFFER = "the reports differ in"
"""How the reason of a case begins that cannot be compared because its report cannot."""


class Side(NamedTuple):
    """What a comparison needs of one report; the report itself, with its raw times, can go."""

    name: str
    report: Report
    """Without its cases."""
    evidence: list[CaseEvidence]


class _Matched(NamedTuple):
    pairs: list[Pair]
    unlike: list[Pair]
    """The same axes, but not the same work."""
    added: list[CaseEvidence]
    missing: list[CaseEvidence]


def side_of(name: str, report: Report) -> Side:
    """The evidence of ``report``, called ``name`` in messages."""
    return Side(name, _bare(report), report_evidence(report))


def compare_sides(
    base: Side,
    new: Side,
    thresholds: Thresholds,
    across: frozenset[str] = frozenset(),
    *,
    paired: bool = False,
    share: float = 1.0,
) -> Comparison:
    """Every case of both reports; see :func:`benchbox.analyze.compare.compare_cases`.

    Raises:
        BadInputError: two cases of one report are the same, with fields in ``across`` left out.
    """
    differences = environment_differences(base.report.environment, new.report.environment, across)
    differences += settings_differences(base.report.suite.measure, new.report.suite.measure)
    matched = _match(base, new, across)
    forbidding = [d.field for d in differences if d.across is not None and not d.lifted]
    if forbidding:
        reason = f"{REPORTS_DIFFER} {', '.join(forbidding)}"
        cases = [_not_comparable(pair, reason) for pair in matched.pairs]
    else:
        cases = compare_cases(matched.pairs, thresholds, paired=paired, share=share)
    for pair in matched.unlike:
        fields = workload_difference(pair[0].case, pair[1].case)
        cases.append(_not_comparable(pair, f"not the same work: {', '.join(fields)}"))
        differences += [_case_difference(pair, field) for field in fields]
    return Comparison(
        schema_version=SCHEMA_VERSION,
        benchbox_version=benchbox.__version__,
        base=_compared(base),
        new=_compared(new),
        thresholds=thresholds,
        confidence_pct=100 * (1 - 2 * THRESHOLD_LEVEL * share),
        false_alarm_pct=100 * FALSE_ALARM * share,
        paired=paired,
        differences=tuple(_without_repeats(differences)),
        cases=tuple(cases),
        added=tuple(evidence.case for evidence in matched.added),
        missing=tuple(evidence.case for evidence in matched.missing),
    )


def has_case_in_common(base: Side, cases: Sequence[Case], across: frozenset[str]) -> bool:
    """Whether a report of ``cases`` could be held against ``base`` in any of them.

    Raises:
        BadInputError: as :func:`compare_sides`.
    """
    planned = [CaseEvidence(case, None, None, ()) for case in cases]
    matched = _match(base, base._replace(name="the suite", evidence=planned), across)
    return bool(matched.pairs or matched.unlike)


def _match(base: Side, new: Side, across: frozenset[str]) -> _Matched:
    before = _by_meaning(base, across)
    pairs, added = [], []
    for key, evidence in _by_meaning(new, across).items():
        partner = before.pop(key, None)
        if partner is None:
            added.append(evidence)
        else:
            pairs.append((partner, evidence))
    unlike = _unlike(list(before.values()), added, across)
    taken = {id(evidence) for pair in unlike for evidence in pair}
    return _Matched(
        pairs,
        unlike,
        [evidence for evidence in added if id(evidence) not in taken],
        [evidence for evidence in before.values() if id(evidence) not in taken],
    )


def _by_meaning(side: Side, across: frozenset[str]) -> dict[str, CaseEvidence]:
    found: dict[str, CaseEvidence] = {}
    for evidence in side.evidence:
        first = found.setdefault(meaning(evidence.case, across), evidence)
        if first is not evidence:
            raise same_case_twice(side.name, first.case, evidence.case)
    return found


def _unlike(
    missing: Sequence[CaseEvidence], added: Sequence[CaseEvidence], across: frozenset[str]
) -> list[Pair]:
    """Cases whose axes agree, each with the only one of the other report whose axes do."""
    sides: dict[str, tuple[list[CaseEvidence], list[CaseEvidence]]] = defaultdict(lambda: ([], []))
    for place, group in enumerate((missing, added)):
        for evidence in group:
            sides[axes_of(evidence.case, across)][place].append(evidence)
    return [(old[0], now[0]) for old, now in sides.values() if len(old) == len(now) == 1]


def _not_comparable(pair: Pair, reason: str) -> CaseComparison:
    base, new = pair
    return CaseComparison(
        case=new.case,
        verdict="not-comparable",
        base_outcome=base.outcome,
        new_outcome=new.outcome,
        reason=reason,
        metrics=(),
    )


def _case_difference(pair: Pair, field: str) -> IdentityDifference:
    old, now = (getattr(evidence.case, field) for evidence in pair)
    return IdentityDifference(
        field=f"case.{field}",
        base=None if old is None else str(old),
        new=None if now is None else str(now),
        across=field,
    )


def _without_repeats(differences: Sequence[IdentityDifference]) -> list[IdentityDifference]:
    seen: dict[tuple[str, str | None, str | None], IdentityDifference] = {}
    for difference in differences:
        seen.setdefault((difference.field, difference.base, difference.new), difference)
    return list(seen.values())


def _compared(side: Side) -> ComparedReport:
    return ComparedReport(name=side.name, created_at=side.report.created_at, suite=side.report.suite.name)


def _bare(report: Report) -> Report:
    return replace(report, cases=(), suite=replace(report.suite, cases=()))
