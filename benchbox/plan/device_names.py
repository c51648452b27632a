"""Find the hardware profile that a table or a person means by a device's name.

Tables write names freely: ``RTX 4090``, ``NVIDIA GeForce RTX 4090``, ``A100-SXM-80GB``. Words that only name
a maker are dropped, and a name with fewer words than a profile's is taken where it fits one profile only. A
name that fits several, such as ``A100``, is refused: 40 GB and 80 GB are different devices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from benchbox.schema import HardwareProfile

_NOISE = frozenset({"nvidia", "geforce", "tesla", "amd", "instinct", "generation", "gpu", "gpus", "the"})


def match_device_name(name: str, profiles: Sequence[HardwareProfile]) -> HardwareProfile | str:
    """The profile that ``name`` means, or in words why there is none."""
    wanted = name_words(name)
    if not wanted:
        return "no hardware profile"
    by_words: list[tuple[frozenset[str], HardwareProfile]] = [
        (name_words(own), profile) for profile in profiles for own in (profile.name, *profile.match_names)
    ]
    exact = {id(profile): profile for words, profile in by_words if words == wanted}
    if len(exact) == 1:
        return next(iter(exact.values()))
    wider = {id(profile): profile for words, profile in by_words if words > wanted}
    found = exact or wider
    if len(found) == 1:
        return next(iter(found.values()))
    return "the name fits several hardware profiles" if found else "no hardware profile"


@cache
def name_words(name: str) -> frozenset[str]:
    """The words of a device's name that tell it from others, in one spelling."""
    name = re.sub(r"(?i)\b(rtx|gtx)(?=\d|a\d)", r"\1 ", name)  # RTX4090
    text = re.sub(r"\bsxm\d?\b", "sxm", re.sub(r"[^a-z0-9]+", " ", name.casefold()))
    text = re.sub(r"\b(\d+) ?(?:gb|g)\b", r"\1gb", text)
    return frozenset(text.split()) - _NOISE
