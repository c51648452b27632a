"""``benchbox diagnose``: what is in the way of each case, and whether the advice holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError

if TYPE_CHECKING:
    from benchbox.schema import Case, CaseResult, Environment, Report, Trial


def diagnose(
    file: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.json.")],
    case: Annotated[str | None, typer.Argument(help="One case only: its id or its label.")] = None,
    output_format: Annotated[Literal["terminal", "markdown", "json"], typer.Option("--format")] = "terminal",
    try_it: Annotated[
        bool,
        typer.Option("--try", help="Run the suggestion beside the original; without CASE, the slowest's."),
    ] = False,
    suite: Annotated[
        Path | None,
        typer.Option(help="The report's suite file: --try needs it for a model or images of yours."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="For --try: cpu, cuda, cuda:N or a GPU's UUID; else as the report's."),
    ] = None,
    repetitions: Annotated[
        int | None, typer.Option(min=2, max=100, help="For --try: attempts of each side (3).")
    ] = None,
) -> None:
    """Name what is in the way of each case of a report, and what to change."""
    from benchbox.report.build import rediagnosed
    from benchbox.report.files import read_report
    from benchbox.report.text import case_labels

    for name, value in (("--suite", suite), ("--device", device), ("--repetitions", repetitions)):
        if value is not None and not try_it:
            raise BadInputError(f"{name}: goes with --try alone")
    report = rediagnosed(read_report(file))
    labels = case_labels([result.case for result in report.cases])
    chosen = list(report.cases) if case is None else [_find(report, labels, case)]
    trial = None
    if try_it:
        chosen = [_worth_trying(chosen)]
        trial = _try(chosen[0], report, suite, device or report.environment.device, repetitions or 3)
    _show(report, chosen, labels, trial, output_format)


def _find(report: Report, labels: dict[str, str], wanted: str) -> CaseResult:
    found = [r for r in report.cases if wanted in (r.case.case_id, labels[r.case.case_id])]
    if len(found) != 1:
        raise BadInputError(f"CASE: {wanted!r} is no case of this report; name one by its id or its label")
    return found[0]


def _worth_trying(chosen: list[CaseResult]) -> CaseResult:
    """The slowest of those with a suggestion."""
    with_advice = [result for result in chosen if result.diagnosis and result.diagnosis.suggestion]
    if not with_advice:
        raise BadInputError("--try: no suggestion to try was found; `benchbox diagnose` without it says why")
    return min(with_advice, key=lambda r: r.summary.samples_per_second if r.summary else float("inf"))


def _try(result: CaseResult, report: Report, suite: Path | None, device: str, repetitions: int) -> Trial:
    from contextlib import closing

    from benchbox.analyze.trial import judge_trial
    from benchbox.measure.runner import Started
    from benchbox.measure.trial import run_by_turns
    from benchbox.plan.changed import apply_suggestion
    from benchbox.report.text import case_label
    from benchbox.schema import Environment

    assert result.diagnosis is not None
    assert result.diagnosis.suggestion is not None
    suggestion = result.diagnosis.suggestion
    original = (_trusted(result, suite), report.suite.measure)
    changed = apply_suggestion(*original, suggestion)
    folder = suite.parent if suite is not None else Path.cwd()
    running = run_by_turns(original, changed, folder, device=device, repetitions=repetitions)
    with closing(running):
        while True:
            try:
                event = next(running)
            except StopIteration as end:
                return judge_trial(original[0], changed[0], suggestion, end.value)
            if isinstance(event, Environment):
                _refuse_another_machine(report.environment, event)
            if isinstance(event, Started):
                print(f"running {case_label(event.case)}, attempt {event.attempt + 1}", file=sys.stderr)


def _refuse_another_machine(reported: Environment, here: Environment) -> None:
    """What was promised from one device's figures says nothing of another."""

    def hardware(environment: Environment) -> str:
        names = sorted({facts.name for facts in environment.devices})
        return ", ".join(names) or environment.host.cpu_model or environment.device

    if hardware(reported) != hardware(here):
        raise BadInputError(
            f"--try: the report is of {hardware(reported)}, and this would run on {hardware(here)}; "
            "`benchbox run` the suite here, and try what that report suggests"
        )


def _trusted(result: CaseResult, suite: Path | None) -> Case:
    """The case to run. What a report names is never imported or opened; it must stand in a suite."""
    from msgspec.structs import replace

    from benchbox.plan.suite import BUILT_IN_MODELS, case_id, load_suite

    case = result.case
    if suite is not None:
        found = [one for one in load_suite(suite).cases if one.case_id == case.case_id]
        if not found:
            raise BadInputError(f"{suite}: has no case {case.case_id}; --suite must be what the report is of")
        return found[0]
    if case.model not in BUILT_IN_MODELS or case.data_dir is not None:
        raise BadInputError(
            "--try: this case has a model or images of your own; say with --suite which suite"
        )
    return replace(case, case_id=case_id(case))


def _show(
    report: Report,
    chosen: list[CaseResult],
    labels: dict[str, str],
    trial: Trial | None,
    output_format: str,
) -> None:
    from msgspec.structs import replace

    from benchbox.report import diagnosis
    from benchbox.report.text import escape_markdown

    shown = replace(report, cases=tuple(chosen))
    if output_format == "json":
        sys.stdout.write(diagnosis.as_json(chosen, trial))
    elif output_format == "markdown":
        sections = [diagnosis.markdown_section(shown, labels), diagnosis.roofline_section(shown, labels)]
        if trial is not None:
            label = labels[trial.case_id]
            sections.append([escape_markdown(diagnosis.trial_text(trial, label))])
        sys.stdout.write("\n".join(line for part in sections if part for line in (*part, "")))
    else:
        for result in chosen:
            print(diagnosis.full_text(report, result, labels[result.case.case_id]))
        if trial is not None:
            print(diagnosis.trial_text(trial, labels[trial.case_id]))
