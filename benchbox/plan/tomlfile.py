"""Read a TOML file into a record, and turn every way it can be wrong into one line for the user."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchbox.errors import BadInputError

MAX_TOML_BYTES = 1 << 20
MAX_MESSAGE_CHARACTERS = 500
T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?$", re.DOTALL)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse ``path``.

    Raises:
        BadInputError: missing, unreadable, larger than 1 MiB, not UTF-8 or not TOML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_TOML_BYTES:
        raise BadInputError(f"{path}: larger than {MAX_TOML_BYTES} bytes, which no suite or profile needs")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{path}: not valid TOML: {error}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise BadInputError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise BadInputError(f"{path}: not valid TOML: nested too deeply") from None


def convert(data: Any, record: type[T], path: Path, prefix: str = "") -> T:
    """Convert plain ``data`` to ``record``, strictly.

    ``prefix`` is the key that ``data`` was found under, for the message.

    Raises:
        BadInputError: a key is unknown, missing, mistyped or out of range; the text names file and key.
    """
    try:
        return msgspec.convert(data, record)
    except msgspec.ValidationError as error:
        raise BadInputError(
            f"{path}: {describe_validation_error(error, prefix)}"[:MAX_MESSAGE_CHARACTERS]
        ) from None


def describe_validation_error(error: msgspec.ValidationError, prefix: str = "") -> str:
    """``Expected `int`, got `str` - at `$.a[0]``` becomes ```a[0]`: expected `int`, got `str```."""
    match = _AT.match(str(error))
    what, where = (match["what"], match["where"]) if match else (str(error), None)
    key = (where or "$").removeprefix("$")
    full_key = f"{prefix}{key}".lstrip(".")
    what = what[:1].lower() + what[1:]
    return f"`{full_key}`: {what}" if full_key else what
