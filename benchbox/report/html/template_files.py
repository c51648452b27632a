"""The templates beside this module."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def environment() -> Environment:
    """Templates in which every value is escaped, and one that is missing is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("benchbox.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["with_code"] = with_code
    return made


def with_code(text: str) -> Markup:
    """``text`` with what stands between two backticks as code; nothing in it becomes markup."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    if len(parts) % 2 == 0:  # one has no partner
        return escape(text)
    shown = (
        Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts)
    )
    return Markup("").join(shown)


def source(name: str) -> str:
    """A style sheet or a script as it stands."""
    return resources.files("benchbox.report.html").joinpath("templates", name).read_text(encoding="utf-8")
