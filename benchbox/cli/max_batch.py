"""``benchbox max-batch``: the largest batch that each configuration of a suite trains."""

from __future__ import annotations

import contextlib
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchbox.errors import BadInputError, WouldOverwriteError

if TYPE_CHECKING:
    from benchbox.measure.max_batch import MaxBatchRun, Options
    from benchbox.schema import MaxBatchReport

FILE_NAME = "max-batch.json"
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def max_batch(
    suite: Annotated[str, typer.Argument(help="A suite file, or the name of a shipped suite such as quick.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for max-batch.json. Default: bench-out/SUITE-max-batch-DATE.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or GPUs: cuda:0,cuda:1 or UUIDs.")] = "auto",
    precision: Annotated[
        float, typer.Option(min=0, max=100, help="Percent by which the answer may be too small; 0: exact.")
    ] = 3.0,
    largest: Annotated[
        int | None, typer.Option("--max-batch", min=1, max=2**48, help="Try no larger batch.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            help="On a CPU: memory for all ranks together, e.g. 8GiB. Default: 80 % of what is available."
        ),
    ] = None,
    output_format: Annotated[Literal["terminal", "markdown", "json"], typer.Option("--format")] = "terminal",
    force: Annotated[bool, typer.Option(help="Replace the max-batch.json that --out holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Find the largest per-device batch that each configuration of a suite trains."""
    from benchbox.measure.max_batch import MaxBatchRun, Options
    from benchbox.plan.suite import find_suite, load_suite

    path = find_suite(suite)
    loaded = load_suite(path)
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = out if out is not None else Path("bench-out", f"{loaded.name}-max-batch-{stamp}")
    file = _usable(folder, force=force)
    options = Options(precision, largest, None if memory_limit is None else parse_bytes(memory_limit))
    with MaxBatchRun(loaded, path.parent, device=device, options=options) as search:
        _refuse_useless(options, search)
        file.parent.mkdir(parents=True, exist_ok=True)
        interrupted = _follow(search, file, quiet=quiet)
        report = search.report()
    _show(report, output_format)
    if interrupted:
        print(f"benchbox: interrupted; what is known is in {file}", file=sys.stderr)
        raise typer.Exit(130)
    raise typer.Exit(0 if any(found.largest_batch_size for found in report.configurations) else 1)


def parse_bytes(text: str) -> int:
    """``8GiB``, ``512 MB`` or a plain number of bytes.

    Raises:
        BadInputError: it is none of these, or nothing.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMG]?i?B|)", text.strip(), re.IGNORECASE | re.ASCII)
    unit = None if match is None else _UNITS.get(match[2].upper())
    num_bytes = 0 if match is None or unit is None else int(float(match[1]) * unit)
    if not 0 < num_bytes < 2**48:
        raise BadInputError(f"--memory-limit: {text!r} is no amount of memory; write e.g. 8GiB or 512MiB")
    return num_bytes


def _usable(folder: Path, *, force: bool) -> Path:
    file = folder / FILE_NAME
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"--out: {folder}: is a file, not a folder")
    if file.exists() and not force:
        raise WouldOverwriteError(f"{file}: exists; replace it with --force, or choose another --out")
    return file


def _refuse_useless(options: Options, search: MaxBatchRun) -> None:
    if options.memory_limit_bytes is not None and search.memory_limit_bytes is None:
        raise BadInputError("--memory-limit: belongs to a CPU; on a GPU the device's own memory is the bound")


def _follow(search: MaxBatchRun, file: Path, *, quiet: bool) -> bool:
    """Search to the end, or to Ctrl-C, and keep what is known in ``file``; whether it was interrupted."""
    from rich.console import Console

    from benchbox.cli.run import ignore_interrupts
    from benchbox.measure.max_batch import Tried
    from benchbox.report.files import write_text
    from benchbox.report.max_batch import render_json, try_line

    console = Console(stderr=True, quiet=quiet)
    with contextlib.closing(search.events()) as events:
        try:
            for event in events:
                if isinstance(event, Tried):
                    console.print(try_line(event.case, event.result), soft_wrap=True)
                else:
                    write_text(render_json(search.report()), file)
        except KeyboardInterrupt:
            return True
        finally:
            ignore_interrupts()
            write_text(render_json(search.report()), file)
    return False


def _show(report: MaxBatchReport, output_format: str) -> None:
    from rich.console import Console

    from benchbox.report.max_batch import max_batch_view, render_json, render_markdown

    match output_format:
        case "terminal":
            Console().print(max_batch_view(report))
        case "markdown":
            sys.stdout.write(render_markdown(report))
        case "json":
            sys.stdout.write(render_json(report))
