"""``benchbox run``: measure a suite, follow it, write the report."""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchbox.cli.compare import Format
from benchbox.cli.complete import complete_suite
from benchbox.errors import BadInputError, WorkerStartError

if TYPE_CHECKING:
    from rich.console import Console

    from benchbox.measure.nodes.first import FirstNode
    from benchbox.measure.nodes.options import NodeOptions
    from benchbox.measure.runner import SuiteRun
    from benchbox.schema import Suite


def run(
    suite: Annotated[
        str,
        typer.Argument(
            help="A suite file, or the name of a shipped suite such as quick.", autocompletion=complete_suite
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report. Default: bench-out/SUITE-DATE.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or GPUs: cuda:0,cuda:1 or UUIDs.")] = "auto",
    list_only: Annotated[bool, typer.Option("--list", help="Show the cases and run none.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with what --out holds.")] = False,
    force: Annotated[bool, typer.Option(help="Replace what --out holds.")] = False,
    skip_unfit: Annotated[
        bool,
        typer.Option("--skip-unfit", help="Do not try cases that surely need more memory."),
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Keep each case's profiled step for Perfetto, in OUT/traces.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
    *,
    versus: Annotated[
        Path | None,
        typer.Option(help="Compare with OTHER, by turns: a Python interpreter, or a folder with a checkout."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="--versus: go on for at most so long. Default: 30.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="--versus: smallest change of throughput that matters, in %. Default: 2."),
    ] = None,
    memory_threshold: Annotated[
        float | None, typer.Option(help="--versus: the same for peak memory. Default: 5.")
    ] = None,
    energy_threshold: Annotated[
        float | None, typer.Option(help="--versus: the same for joules per sample. Default: 5.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="--versus: exit with 3 where noise hides the answer.")
    ] = False,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format", help="--versus: how to show the comparison, as for compare. Default: terminal."
        ),
    ] = None,
    nnodes: Annotated[
        int | None,
        typer.Option(help="Run on so many machines: this command on each. Slurm's own say is taken."),
    ] = None,
    node_rank: Annotated[int | None, typer.Option(help="Which of them this is; 0 writes the report.")] = None,
    rdzv_endpoint: Annotated[str | None, typer.Option(help="HOST:PORT where node 0 listens.")] = None,
    nproc_per_node: Annotated[
        int | None, typer.Option(help="Ranks on each machine. Default: one for each GPU, or one on a CPU.")
    ] = None,
) -> None:
    """Run a suite on this machine, or on several, and write report.json and report.md.

    With --versus also in another environment, by turns, until each case is decided; exit codes are then
    those of compare.
    """
    from rich.console import Console

    from benchbox.measure.nodes.options import node_options
    from benchbox.plan.suite import find_suite, load_suite
    from benchbox.report.cases import case_table

    path = find_suite(suite)
    loaded = load_suite(path)
    _refuse_misplaced(
        versus=versus is not None,
        only_with={
            "--max-minutes": max_minutes is not None,
            "--threshold": threshold is not None,
            "--memory-threshold": memory_threshold is not None,
            "--energy-threshold": energy_threshold is not None,
            "--strict": strict,
            "--format": output_format is not None,
        },
        never_with={"--skip-unfit": skip_unfit, "--trace": trace},
    )
    console = Console()
    if list_only:
        console.print(case_table(loaded))
        return
    if resume and force:
        raise BadInputError("--resume and --force: choose one, to go on or to start anew")
    if resume and out is None:
        raise BadInputError("--resume: say with --out which folder to go on in")
    nodes = node_options(nnodes, node_rank, rdzv_endpoint, nproc_per_node, os.environ)
    if nodes is not None and nodes.node > 0:
        _serve(loaded, path, nodes, device=device, quiet=quiet)
        return
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = out if out is not None else Path("bench-out", f"{loaded.name}-{stamp}")
    if versus is not None:
        if nodes is not None:
            raise BadInputError("--versus: compares on one machine")
        if resume:
            raise BadInputError("--resume: cannot go on with a --versus; start anew")
        from benchbox.analyze.compare import thresholds_of
        from benchbox.cli.versus import VersusOptions, run_versus

        options = VersusOptions(
            versus,
            folder,
            device,
            thresholds=thresholds_of(threshold, memory_threshold, energy_threshold),
            max_minutes=30.0 if max_minutes is None else max_minutes,
            strict=strict,
            force=force,
            quiet=quiet,
            output_format=output_format or "terminal",
        )
        raise typer.Exit(run_versus(loaded, path.parent, options, console))

    from benchbox.measure.nodes.first import FirstNode
    from benchbox.measure.runner import SuiteRun

    first = None if nodes is None else FirstNode(loaded, device, nodes)
    suite_run = SuiteRun(
        loaded,
        path.parent,
        folder,
        device=device,
        resume=resume,
        force=force,
        skip_unfit=skip_unfit,
        trace=trace,
        site=first,
    )
    code = _run_suite(suite_run, first, folder, quiet=quiet, console=console)
    raise typer.Exit(code)


def _refuse_misplaced(*, versus: bool, only_with: dict[str, bool], never_with: dict[str, bool]) -> None:
    """Options that would do nothing, and were given, with ``--versus`` or without it."""
    for option, is_given in (never_with if versus else only_with).items():
        if is_given:
            why = "cannot be had with --versus" if versus else "goes with --versus alone"
            raise BadInputError(f"{option}: {why}")


def _run_suite(
    suite_run: SuiteRun, first: FirstNode | None, folder: Path, *, quiet: bool, console: Console
) -> int:
    from benchbox.measure.folder import REPORT_NAME, SUMMARY_NAME
    from benchbox.report.estimates import unfit_lines
    from benchbox.report.files import read_report, write_report, write_text
    from benchbox.report.from_run import report_of_run
    from benchbox.report.markdown import render_markdown
    from benchbox.report.terminal import terminal_view
    from benchbox.report.text import case_labels

    with suite_run:
        if suite_run.is_complete() and (folder / REPORT_NAME).is_file():
            interrupted, done = False, "nothing was left to measure"
            report = read_report(folder / REPORT_NAME)
        else:
            for line in unfit_lines(suite_run.suite.cases, suite_run.estimates_to_run()):
                print(f"benchbox: warning: {line}", file=sys.stderr)
            interrupted = _follow(suite_run, console, quiet=quiet)
            if first is not None:
                first.was_interrupted = interrupted
            done = f"written: {folder / REPORT_NAME} and {SUMMARY_NAME}"
            report = report_of_run(suite_run)
            write_report(report, folder / REPORT_NAME)
            write_text(render_markdown(report), folder / SUMMARY_NAME)
    untraced = suite_run.untraced()
    if untraced:
        labels = ", ".join(case_labels(suite_run.suite.cases)[case.case_id] for case in untraced)
        print(f"benchbox: warning: no trace of {labels}: no step of it was profiled", file=sys.stderr)
    if not quiet:
        console.print(terminal_view(report, console.width))
        console.print(done, markup=False, highlight=False, soft_wrap=True)
    if interrupted:
        print("benchbox: interrupted; go on with --resume", file=sys.stderr)
        return 130
    if first is not None and first.trouble is not None and not report.complete:
        print(
            f"benchbox: {first.trouble}; what needs that node was left; go on with --resume", file=sys.stderr
        )
        return 1
    return 0 if any(case.outcome == "ok" for case in report.cases) else 1


def _serve(suite: Suite, path: Path, nodes: NodeOptions, *, device: str, quiet: bool) -> None:
    from benchbox.measure.nodes.other import OtherNode

    with OtherNode(suite, path.parent, device, nodes) as node:
        if not quiet:
            print(f"node {nodes.node} of {nodes.num_nodes} works for {node.of}", flush=True)
        node.serve()


def _follow(suite_run: SuiteRun, console: Console, *, quiet: bool) -> bool:
    """Run to the end, or to Ctrl-C; whether it was interrupted."""
    import contextlib

    from benchbox.report.live import open_display

    with contextlib.closing(suite_run.events()) as events:
        try:
            with open_display(console, suite_run.suite, quiet=quiet) as display:
                if suite_run.can_measure_ceilings():
                    display.note("probing what the machine reaches")
                    suite_run.measure_ceilings()
                for event in events:
                    display.show(event)
                if suite_run.can_measure_cost_of_watching():
                    display.note("measuring what watching costs")
                    suite_run.measure_cost_of_watching()
        except KeyboardInterrupt:
            ignore_interrupts()
            suite_run.recall()
            return True
        except WorkerStartError as error:
            raise WorkerStartError(f"{error}; nothing finished is lost, go on with --resume") from None
        finally:
            ignore_interrupts()
    return False


def ignore_interrupts() -> None:
    """From here to the end, so that no Ctrl-C, and no second one, costs the report of what is measured."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
