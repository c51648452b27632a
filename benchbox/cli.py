"""The command line: parsing, printing, exit codes. Nothing else prints or exits.

Exit codes: 0 done; 1 the run finished but no case was ``ok``; 2 bad input; 130 ended by Ctrl-C.
Heavy imports stay inside the commands, so that ``--help`` is quick; torch is never imported here.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import benchbox
from benchbox.errors import BadInputError, BenchboxError

if TYPE_CHECKING:
    from rich.console import Console

    from benchbox.measure.runner import SuiteRun
    from benchbox.schema import Suite

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
hw_app = typer.Typer(no_args_is_help=True, help="Hardware profiles: list, show, detect, init.")
app.add_typer(hw_app, name="hw")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"benchbox {benchbox.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Benchmark neural-network training on the hardware you have, and get a report you can trust."""


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite file, or the name of a shipped suite such as quick.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report. Default: bench-out/SUITE-DATE.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or a GPU's UUID.")] = "auto",
    list_only: Annotated[bool, typer.Option("--list", help="Show the cases and run none.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with what --out holds.")] = False,
    force: Annotated[bool, typer.Option(help="Replace what --out holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
) -> None:
    """Run a suite on this machine and write report.json and report.md."""
    from rich.console import Console

    from benchbox.plan.suite import find_suite, load_suite
    from benchbox.report.cases import case_table

    path = find_suite(suite)
    loaded = load_suite(path)
    console = Console()
    if list_only:
        console.print(case_table(loaded))
        return
    if resume and force:
        raise BadInputError("--resume and --force: choose one, to go on or to start anew")
    if resume and out is None:
        raise BadInputError("--resume: say with --out which folder to go on in")
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = out if out is not None else Path("bench-out", f"{loaded.name}-{stamp}")
    code = _run_suite(
        loaded, path, folder, device=device, resume=resume, force=force, quiet=quiet, console=console
    )
    raise typer.Exit(code)


def _run_suite(
    suite: Suite,
    path: Path,
    folder: Path,
    *,
    device: str,
    resume: bool,
    force: bool,
    quiet: bool,
    console: Console,
) -> int:
    from benchbox.measure.folder import REPORT_NAME, SUMMARY_NAME
    from benchbox.measure.runner import SuiteRun
    from benchbox.report.files import read_report, write_report, write_text
    from benchbox.report.from_run import report_of_run
    from benchbox.report.markdown import render_markdown
    from benchbox.report.terminal import terminal_view

    with SuiteRun(suite, path.parent, folder, device=device, resume=resume, force=force) as suite_run:
        if suite_run.is_complete() and (folder / REPORT_NAME).is_file():
            interrupted, done = False, "nothing was left to measure"
            report = read_report(folder / REPORT_NAME)
        else:
            interrupted = _follow(suite_run, console, quiet=quiet)
            done = f"written: {folder / REPORT_NAME} and {SUMMARY_NAME}"
            report = report_of_run(suite_run)
            write_report(report, folder / REPORT_NAME)
            write_text(render_markdown(report), folder / SUMMARY_NAME)
    if not quiet:
        console.print(terminal_view(report, console.width))
        console.print(done, markup=False, highlight=False, soft_wrap=True)
    if interrupted:
        print("benchbox: interrupted; go on with --resume", file=sys.stderr)
        return 130
    return 0 if any(case.outcome == "ok" for case in report.cases) else 1


def _follow(suite_run: SuiteRun, console: Console, *, quiet: bool) -> bool:
    """Run to the end, or to Ctrl-C; whether it was interrupted."""
    import contextlib

    from benchbox.report.live import open_display

    with contextlib.closing(suite_run.events()) as events:
        try:
            with open_display(console, suite_run.suite, quiet=quiet) as display:
                for event in events:
                    display.show(event)
                if suite_run.can_measure_cost_of_watching():
                    display.note("measuring what watching costs")
                    suite_run.measure_cost_of_watching()
        except KeyboardInterrupt:
            return True
        finally:
            _ignore_interrupts()
    return False


def _ignore_interrupts() -> None:
    """From here to the end, so that no Ctrl-C, and no second one, costs the report of what is measured."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="report.json files.")],
    output_format: Annotated[
        Literal["terminal", "markdown", "csv", "pytest-benchmark"], typer.Option("--format")
    ] = "terminal",
) -> None:
    """Show reports in the terminal, or as Markdown, CSV or pytest-benchmark's JSON."""
    from rich.console import Console

    from benchbox.report.csvfile import render_csv
    from benchbox.report.files import read_report
    from benchbox.report.markdown import render_markdown
    from benchbox.report.pytest_benchmark import render_pytest_benchmark
    from benchbox.report.terminal import terminal_view

    reports = [read_report(file) for file in files]
    match output_format:
        case "terminal":
            console = Console()
            for one in reports:
                console.print(terminal_view(one, console.width))
        case "markdown":
            sys.stdout.write("\n".join(render_markdown(one) for one in reports))
        case "csv":
            sys.stdout.write(render_csv(reports))
        case "pytest-benchmark":
            sys.stdout.write(render_pytest_benchmark(reports))


@app.command()
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from benchbox.report.files import json_schema

    sys.stdout.write(json_schema())


@hw_app.command("list")
def hw_list() -> None:
    """List the hardware profiles."""
    from rich.console import Console

    from benchbox.plan.hardware import load_profiles
    from benchbox.report.hardware import list_table

    Console().print(list_table(load_profiles()))


@hw_app.command("show")
def hw_show(name: Annotated[str, typer.Argument(help="A profile's name, as the list shows it.")]) -> None:
    """Show one profile with its sources."""
    from rich.console import Console

    from benchbox.plan.hardware import find_profile, load_profiles
    from benchbox.report.hardware import profile_table

    Console().print(profile_table(find_profile(name, load_profiles())))


@hw_app.command("detect")
def hw_detect() -> None:
    """Show this machine's devices and the profiles that match them."""
    from rich.console import Console

    from benchbox.measure.detect import detect_devices
    from benchbox.plan.hardware import load_profiles, match_profile
    from benchbox.report.hardware import DetectedDevice, detected_table

    found, reason = detect_devices()
    profiles = load_profiles()
    devices = [
        DetectedDevice(
            d.name,
            d.memory_total_bytes,
            match_profile(d.name, d.memory_total_bytes, profiles, d.num_processors),
        )
        for d in found
    ]
    Console().print(detected_table(devices))
    if reason is not None:
        print(f"no NVIDIA GPU seen: {reason}")


@hw_app.command("init")
def hw_init(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: your own profiles.")] = None,
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="Per probe.")] = 2.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the profile.")] = False,
) -> None:
    """Measure what a device reaches with short probes and write a profile of it."""
    from rich.console import Console

    from benchbox.measure import hardware_init
    from benchbox.measure.host_facts import host_facts
    from benchbox.plan.hardware import user_profiles_dir
    from benchbox.report.hardware import profile_table

    if not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", device):
        raise BadInputError(f"--device: {device!r} is none of auto, cpu, cuda:N")
    folder, console, host = out or user_profiles_dir(), Console(), host_facts()
    chosen = hardware_init.device_to_probe(device)
    name = hardware_init.profile_name(None if chosen is None else chosen.name, host)
    hardware_init.profile_path(name, folder, overwrite)  # before the minute that measuring takes
    with console.status(f"measuring {name}"):  # on a terminal only
        result = hardware_init.run_probe("cpu" if chosen is None else f"cuda:{chosen.index}", host, seconds)
    profile = hardware_init.profile_from_probe(result, host, datetime.now().astimezone().date())
    path = hardware_init.write_profile(profile, folder, overwrite)
    console.print(profile_table(profile))
    print(f"written: {path}")
    if out is not None:
        print(f"to be used it must lie in {user_profiles_dir()}")


def main() -> None:
    """Entry point: turns errors meant for the user into one line and exit code 2."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends like Ctrl-C, with a valid report
    try:
        app()
    except BenchboxError as error:
        print(f"benchbox: {_one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered goes there at exit
        raise SystemExit(1) from None
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"benchbox: {_one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


if __name__ == "__main__":
    main()
