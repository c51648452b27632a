"""The command line: parsing, printing, exit codes. Nothing else prints or exits.

One module a command. Heavy imports stay inside the commands, so that ``--help`` is quick; torch is never
imported here. Exit codes: 0 done; 1 the run finished but no case was ``ok``, a machine of several was lost,
or a comparison found a regression; 2 bad input; 3 a comparison cannot be made or, with ``--strict``, not be
told; 130 Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, Any

import typer

import benchbox
from benchbox.cli.compare import compare
from benchbox.cli.diagnose import diagnose
from benchbox.cli.estimate import estimate
from benchbox.cli.grade import grade
from benchbox.cli.hardware import hw_app
from benchbox.cli.history import history
from benchbox.cli.max_batch import max_batch
from benchbox.cli.plan import plan
from benchbox.cli.plot import plot
from benchbox.cli.report import report, schema
from benchbox.cli.run import run
from benchbox.cli.slurm import slurm
from benchbox.errors import BenchboxError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(run)
app.command()(estimate)
app.command("max-batch")(max_batch)
app.command()(slurm)
app.command()(report)
app.command()(plot)
app.command()(compare)
app.command()(history)
app.command()(diagnose)
app.command()(schema)
app.command()(grade)
app.command()(plan)
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


# What a command line that cannot be parsed raises: click's, or typer's own copy of it, by version.
_UsageError = typer.BadParameter.__base__


def main() -> None:
    """Entry point: turns errors meant for the user into one line and exit code 2."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # ends like Ctrl-C, with a valid report
    _print_anything()
    try:
        raise SystemExit(app(standalone_mode=False))
    except _UsageError as error:  # type: ignore[misc]
        _tell_usage(error)
        raise SystemExit(2) from None
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


def _tell_usage(error: Any) -> None:
    message = error.format_message()
    if "\n" in message:  # a command without anything, which is answered with its help
        print(message, file=sys.stderr)
        return
    command = error.ctx.command_path if error.ctx is not None else "benchbox"
    told = message.replace("Value error, ", "").rstrip(".")
    print(f"{command}: {_one_line(told)}; see {command} --help", file=sys.stderr)


def _print_anything() -> None:
    """A locale without ± or a name that is not UTF-8 must not end a command, least of all a run.

    Files and pipes get UTF-8, as everything does that is written with ``--out``; a terminal what it can show.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # not None, as without a descriptor
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="replace")


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
