"""Hardware profiles: read them, write them, and find the one that describes a device.

An unknown device gets ``None``, never a similar device's figures.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from benchbox.errors import BadInputError
from benchbox.plan.device_names import name_words
from benchbox.plan.shipped import shipped_dir
from benchbox.plan.tomlfile import MAX_QUOTED_CHARACTERS, convert, printable, read_toml
from benchbox.schema import HardwareProfile

# Drivers keep a part of the nominal memory back (ECC on GDDR6 costs up to a tenth), and a nominal "141 GiB"
# may be rounded. Variants of one name differ by far more, and so does a MIG slice.
MIN_MEMORY_SHARE = 0.88
MAX_MEMORY_SHARE = 1.03


def user_profiles_dir() -> Path:
    """Where `hw init` writes: ``benchbox/hw_profiles`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    config = os.environ.get("XDG_CONFIG_HOME") or ""
    # The XDG specification wants relative paths ignored.
    base = Path(config) if Path(config).is_absolute() else Path.home() / ".config"
    return base / "benchbox" / "hw_profiles"


def read_profile(path: Path) -> HardwareProfile:
    """Read one profile.

    Raises:
        BadInputError: unreadable, not TOML, or a key is unknown, missing, mistyped or out of range; a
            text is empty or unprintable.
    """
    profile = convert(read_toml(path), HardwareProfile, path)
    _check_texts(msgspec.to_builtins(profile), path)
    if not profile.name:
        raise BadInputError(f"{path}: `name`: empty; give the name that `benchbox hw show` shall know it by")
    if not profile.match_names or not all(profile.match_names):
        raise BadInputError(f"{path}: `match_names`: give at least one name, as the driver prints it")
    return profile


def load_profiles(extra_dirs: Sequence[Path] | None = None) -> tuple[HardwareProfile, ...]:
    """All profiles: the shipped ones first, then those of ``extra_dirs`` (by default the user's own folder).

    Within a folder they come in the order of their file names; a folder that does not exist holds none.

    Raises:
        BadInputError: a profile is malformed.
        BenchboxError: the shipped profiles are missing.
    """
    extra = (user_profiles_dir(),) if extra_dirs is None else extra_dirs
    folders = (shipped_dir("hw_profiles"), *extra)
    return tuple(read_profile(path) for folder in folders for path in _profile_paths(folder))


def match_profile(
    device_name: str,
    memory_total_bytes: int | None,
    profiles: Iterable[HardwareProfile],
    num_processors: int | None = None,
) -> HardwareProfile | None:
    """The profile of the device that torch or the driver calls ``device_name``, or ``None``.

    Names are compared whole, without regard to case. A GPU's memory must also fit, so that neither a
    variant with other memory nor a MIG slice passes for the device; unknown memory fits no profile that
    states some. ``num_processors`` (a GPU's multiprocessors, the processors that may be used on a CPU) must
    be equal where profile and caller both know it; a CPU profile always asks for it.

    Of several matches the first gives the facts and the last that measured gives ``reached``: with the order
    of :func:`load_profiles`, shipped facts together with what the user's own ``hw init`` reached.
    """
    matches = [
        profile
        for profile in profiles
        if _same_name(profile, device_name)
        and (profile.kind == "cpu" or _memory_fits(profile, memory_total_bytes))
        and _processors_fit(profile, num_processors)
    ]
    if not matches:
        return None
    measured = [profile.reached for profile in matches if profile.reached is not None]
    return msgspec.structs.replace(matches[0], reached=measured[-1]) if measured else matches[0]


def find_profile(name: str, profiles: Sequence[HardwareProfile]) -> HardwareProfile:
    """The profile that is called ``name``, or whose device alone the driver calls so, without regard to case.

    Raises:
        BadInputError: there is none; the text proposes names that look alike.
    """
    by_name = {profile.name.casefold(): profile for profile in reversed(profiles)}
    if name.casefold() in by_name:
        return by_name[name.casefold()]
    driver = {profile.name: profile for profile in reversed(profiles) if _same_name(profile, name)}
    if len(driver) == 1:
        return next(iter(driver.values()))
    alike = alike_names(name, profiles)
    hint = f"did you mean {' or '.join(alike)}?" if alike else "`benchbox hw list` shows all"
    raise BadInputError(f"{printable(name)[:100]!r} is no hardware profile; {hint}")


def alike_names(name: str, profiles: Sequence[HardwareProfile]) -> list[str]:
    """Names of at most three profiles: those that hold ``name``, else all its words, else those that look
    like it, else those of which a word looks like one of its own."""
    names = {profile.name.casefold(): profile.name for profile in profiles}
    wanted = name.strip().casefold()[:MAX_QUOTED_CHARACTERS]
    found = [key for key in names if wanted and wanted in key]
    words = name_words(wanted)
    by_words = {profile.name.casefold(): name_words(profile.name) for profile in profiles}
    if not found and words:
        found = [key for key, own in by_words.items() if words <= own]
    if not found:
        found = difflib.get_close_matches(wanted, names)
    if not found:
        every = sorted({word for own in by_words.values() for word in own if len(word) > 2})
        near = [match for word in sorted(words) for match in difflib.get_close_matches(word, every, 1, 0.5)]
        found = [key for key, own in by_words.items() if own & set(near)]
    return [names[key] for key in found[:3]]


def profile_to_toml(profile: HardwareProfile) -> str:
    """``profile`` as TOML text that :func:`read_profile` reads back; what is unknown is left out."""
    return tomli_w.dumps(_without_none(msgspec.to_builtins(profile)))


def _profile_paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.toml") if path.is_file())


def _same_name(profile: HardwareProfile, device_name: str) -> bool:
    wanted = device_name.strip().casefold()
    return any(name.strip().casefold() == wanted for name in profile.match_names)


def _memory_fits(profile: HardwareProfile, total_bytes: int | None) -> bool:
    known = [float(mib) for mib in profile.memory_mib_reported]
    if profile.memory_gib is not None:
        known.append(profile.memory_gib * 1024)
    if not known:
        return True
    if total_bytes is None:
        return False
    return min(known) * MIN_MEMORY_SHARE <= total_bytes / 2**20 <= max(known) * MAX_MEMORY_SHARE


def _processors_fit(profile: HardwareProfile, num_processors: int | None) -> bool:
    if profile.kind == "gpu" and (profile.num_multiprocessors is None or num_processors is None):
        return True
    return num_processors is not None and profile.num_multiprocessors == num_processors


def _check_texts(value: Any, path: Path, key: str = "") -> None:
    """Refuse texts that TOML can write but that no table can show."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_texts(item, path, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_texts(item, path, f"{key}[{index}]")
    elif isinstance(value, str) and not value.isprintable():
        raise BadInputError(f"{path}: `{key}`: control characters and line breaks are not allowed")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
