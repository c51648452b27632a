"""``benchbox hw``: hardware profiles."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from benchbox.errors import BadInputError

hw_app = typer.Typer(no_args_is_help=True, help="Hardware profiles: list, show, detect, init.")


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
