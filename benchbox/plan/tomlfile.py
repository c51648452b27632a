"""Read a TOML file into a record, and turn every way it can be wrong into one line for the user."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchbox.errors import BadInputError
from benchbox.plan.allowed import allowed_keys, allowed_values

MAX_TOML_BYTES = 1 << 20
# tomllib's time grows with the square of a dotted key's parts: minutes for 100,000 of them.
MAX_DOTS_IN_LINE = 500
MAX_MESSAGE_CHARACTERS = 800
MAX_QUOTED_CHARACTERS = 200
T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?$", re.DOTALL)


def printable(text: str) -> str:
    """``text`` without control characters, line breaks and other characters that move a terminal's cursor."""
    return "".join(character for character in text if character.isprintable())


def quoted(text: str) -> str:
    """``text`` as a message quotes it: on one line, printable, and not at any length."""
    return repr(clipped(text, MAX_QUOTED_CHARACTERS))


def clipped(text: str, max_characters: int) -> str:
    """The printable part of ``text``, cut to ``max_characters``."""
    text = printable(text)
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def bad_input(path: Path, what: str) -> BadInputError:
    """The error for ``path``; ``what`` may quote the file, so it becomes one printable line, not too long."""
    return BadInputError(f"{printable(str(path))}: {clipped(what, MAX_MESSAGE_CHARACTERS)}")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse ``path``.

    Raises:
        BadInputError: missing, unreadable, larger than 1 MiB, not UTF-8, not TOML or made to be slow.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOML_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise bad_input(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_TOML_BYTES:
        raise bad_input(path, f"larger than {MAX_TOML_BYTES} bytes, which no suite or profile needs")
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.count(b".") > MAX_DOTS_IN_LINE:
            raise bad_input(path, f"line {number}: more than {MAX_DOTS_IN_LINE} dots")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise bad_input(path, f"not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise bad_input(path, f"not valid TOML: {error}") from None
    except ValueError:  # Python's own limit
        raise bad_input(path, "not valid TOML: an integer of thousands of digits") from None
    except RecursionError:
        raise bad_input(path, "not valid TOML: nested too deeply") from None


def convert(data: Any, record: type[T], path: Path, prefix: str = "") -> T:
    """Convert plain ``data`` to ``record``, strictly.

    ``prefix`` is the key that ``data`` was found under, for the message.

    Raises:
        BadInputError: a key is unknown, missing, mistyped or out of range; the text names file, key and,
            where words are to be chosen from, what is allowed.
    """
    try:
        return msgspec.convert(data, record)
    except msgspec.ValidationError as error:
        what, where = _what_and_where(error)
        allowed = allowed_keys(record, where) if "unknown field" in what else allowed_values(record, where)
        text = describe_validation_error(error, prefix).replace(" | null`", "`")  # TOML has no null
        raise bad_input(path, f"{text}; allowed: {', '.join(allowed)}" if allowed else text) from None


def describe_validation_error(error: msgspec.ValidationError, prefix: str = "") -> str:
    """``Expected `int`, got `str` - at `$.a[0]``` becomes ```a[0]`: expected `int`, got `str```.

    The text is printable and of bounded length, although the error may quote any key of a file.
    """
    what, where = _what_and_where(error)
    full_key = clipped(f"{prefix}{where.removeprefix('$')}".lstrip("."), MAX_QUOTED_CHARACTERS)
    what = clipped(what[:1].lower() + what[1:], MAX_QUOTED_CHARACTERS)
    return f"`{full_key}`: {what}" if full_key else what


def _what_and_where(error: msgspec.ValidationError) -> tuple[str, str]:
    match = _AT.match(str(error))
    return (match["what"], match["where"] or "$") if match else (str(error), "$")
