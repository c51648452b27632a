"""Which values and keys a record allows at a place that a validation error names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import inspect

_STEP = re.compile(r"\.(?P<field>\w+)|\[(?P<place>\d+|\.\.\.)\]")


def allowed_values(record: type, where: str) -> tuple[str, ...]:
    """The words allowed at ``where`` (as in ``$.axes.precision[1]``); empty where any may stand."""
    return tuple(
        str(value)
        for kind in _kinds_at(record, where)
        if isinstance(kind, inspect.LiteralType)
        for value in kind.values
    )


def allowed_keys(record: type, where: str) -> tuple[str, ...]:
    """The keys allowed in the table at ``where``; empty where no table may stand."""
    return tuple(
        field.encode_name
        for kind in _kinds_at(record, where)
        if isinstance(kind, inspect.StructType)
        for field in kind.fields
    )


def _kinds_at(record: type, where: str) -> list[inspect.Type]:
    kinds = list(_plain(inspect.type_info(record)))
    for step in _STEP.finditer(where):
        inside = [inner for kind in kinds for inner in _inside(kind, step["field"])]
        kinds = [plain for kind in inside for plain in _plain(kind)]
    return kinds


def _plain(kind: inspect.Type) -> Iterator[inspect.Type]:
    """``kind`` without what surrounds it: each member of a union, the type that metadata belongs to."""
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from _plain(member)
    elif isinstance(kind, inspect.Metadata):
        yield from _plain(kind.type)
    else:
        yield kind


def _inside(kind: inspect.Type, field_name: str | None) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        yield from (field.type for field in kind.fields if field.encode_name == field_name)
    elif field_name is None and isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield kind.item_type
    elif field_name is None and isinstance(kind, inspect.DictType):
        yield kind.value_type
