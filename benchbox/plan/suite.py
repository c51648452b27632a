"""A suite file becomes cases: axes are crossed, exclusions taken out, inclusions added, all checked."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from benchbox.errors import BadInputError
from benchbox.plan.shipped import shipped_dir
from benchbox.plan.tomlfile import convert, read_toml
from benchbox.schema import (
    Case,
    Count,
    DataSource,
    MeasureSettings,
    MemoryFormat,
    Positive,
    PositiveInt,
    Precision,
    Record,
    Strategy,
    Suite,
)

MAX_CASES = 10_000

# Input shape and classes of the built-in models; the mlp's come from its sizes.
_BUILT_IN: dict[str, tuple[tuple[int, ...], int]] = {
    "reference-cnn": ((3, 224, 224), 1000),
    "small-cnn": ((1, 28, 28), 10),
}
# Adam's customary 1e-3 makes the reference model's loss jump from 7 to 60 in two steps, because one layer
# sums 373,248 inputs; at 1e-5 it falls smoothly, so that precisions can be compared.
_LEARNING_RATE = {"reference-cnn": 1e-5}
_DEFAULT_LEARNING_RATE = 1e-3
_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class _Workload(Record, frozen=True, kw_only=True):
    model: str = "reference-cnn"
    data: DataSource = "device"
    data_dir: str | None = None
    num_generated_images: PositiveInt | None = None
    num_loader_workers: Count | None = None
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    input_shape: tuple[PositiveInt, ...] | None = None
    num_classes: PositiveInt | None = None
    learning_rate: Positive | None = None
    seed: Count = 0


class _Axes(Record, frozen=True, kw_only=True):
    per_device_batch_size: tuple[PositiveInt, ...] = (32,)
    precision: tuple[Precision, ...] = ("fp32",)
    gradient_checkpointing: tuple[bool, ...] = (False,)
    strategy: tuple[Strategy, ...] = ("single",)
    world_size: tuple[PositiveInt, ...] = (1,)
    gradient_accumulation_steps: tuple[PositiveInt, ...] = (1,)
    memory_format: tuple[MemoryFormat, ...] = ("contiguous",)
    compile: tuple[bool, ...] = (False,)


class _Exclude(Record, frozen=True, kw_only=True):
    per_device_batch_size: PositiveInt | UnsetType = UNSET
    precision: Precision | UnsetType = UNSET
    gradient_checkpointing: bool | UnsetType = UNSET
    strategy: Strategy | UnsetType = UNSET
    world_size: PositiveInt | UnsetType = UNSET
    gradient_accumulation_steps: PositiveInt | UnsetType = UNSET
    memory_format: MemoryFormat | UnsetType = UNSET
    compile: bool | UnsetType = UNSET


class _Include(_Exclude, frozen=True, kw_only=True):
    model: str | UnsetType = UNSET
    data: DataSource | UnsetType = UNSET
    data_dir: str | UnsetType = UNSET
    num_generated_images: PositiveInt | UnsetType = UNSET
    num_loader_workers: Count | UnsetType = UNSET
    sizes: tuple[PositiveInt, PositiveInt, PositiveInt] | UnsetType = UNSET
    input_shape: tuple[PositiveInt, ...] | UnsetType = UNSET
    num_classes: PositiveInt | UnsetType = UNSET
    learning_rate: Positive | UnsetType = UNSET
    seed: Count | UnsetType = UNSET


class _SuiteFile(Record, frozen=True, kw_only=True):
    workload: _Workload = _Workload()
    axes: _Axes = _Axes()
    exclude: tuple[_Exclude, ...] = ()
    include: tuple[_Include, ...] = ()
    measure: MeasureSettings = MeasureSettings()


_OF_MODEL = ("sizes", "input_shape", "num_classes", "learning_rate")
_OF_DATA = ("data_dir", "num_generated_images", "num_loader_workers")


def find_suite(name_or_path: str) -> Path:
    """The file that the user means: a path, or the name of a shipped suite such as ``quick``.

    Raises:
        BadInputError: there is no such file and no such shipped suite.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = shipped_dir("suites")
    names = sorted(entry.stem for entry in shipped.glob("*.toml"))
    if name_or_path in names:
        return shipped / f"{name_or_path}.toml"
    raise BadInputError(
        f"{name_or_path}: no such file, and not one of the shipped suites ({', '.join(names)})"
    )


def load_suite(path: Path) -> Suite:
    """Read a suite file and cross its axes.

    Raises:
        BadInputError: anything in the file is wrong; the text names the file, the key and what is allowed.
    """
    file = convert(read_toml(path), _SuiteFile, path)
    crossed = _cross(file.axes, path)
    kept = _without(crossed, file.exclude, path)
    cases = [_case(file.workload, axes, path, "workload") for axes in kept]
    for number, extra in enumerate(file.include):
        where = f"include[{number}]"
        workload, axes = _apply(file.workload, file.axes, extra)
        cases.append(_case(workload, axes, path, where))
    if not cases:
        raise BadInputError(f"{path}: `exclude`: leaves no case to run")
    _check_unique(cases, path)
    return Suite(name=path.stem, cases=tuple(cases), measure=file.measure, order_seed=file.workload.seed)


def _cross(axes: _Axes, path: Path) -> list[dict[str, Any]]:
    columns: dict[str, tuple[Any, ...]] = {name: getattr(axes, name) for name in axes.__struct_fields__}
    for name, values in columns.items():
        if not values:
            raise BadInputError(
                f"{path}: `axes.{name}`: an empty list leaves no case; leave the key out instead"
            )
        for place, value in enumerate(values):
            if value in values[:place]:
                raise BadInputError(f"{path}: `axes.{name}[{place}]`: {value!r} stands there twice")
    num_cases = math.prod(len(values) for values in columns.values())
    if num_cases > MAX_CASES:
        raise BadInputError(f"{path}: `axes`: {num_cases} cases; at most {MAX_CASES} are allowed")
    return [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]


def _without(
    crossed: list[dict[str, Any]], excludes: tuple[_Exclude, ...], path: Path
) -> list[dict[str, Any]]:
    for number, exclude in enumerate(excludes):
        wanted = _given(exclude)
        if not wanted:
            raise BadInputError(
                f"{path}: `exclude[{number}]`: names no axis, so it would take out every case"
            )
        kept = [axes for axes in crossed if any(axes[name] != value for name, value in wanted.items())]
        if len(kept) == len(crossed):
            raise BadInputError(f"{path}: `exclude[{number}]`: matches no case (that is left)")
        crossed = kept
    return crossed


def _given(record: Record) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(record).items() if value is not UNSET}


def _apply(workload: _Workload, axes: _Axes, extra: _Include) -> tuple[_Workload, dict[str, Any]]:
    """One included case: what it names, the rest from ``[workload]`` and from the axes' defaults.

    Keys that belong to another model or another kind of data than the included one are not inherited.
    """
    given = _given(extra)
    axis_values = {name: given.pop(name, getattr(_Axes(), name)[0]) for name in axes.__struct_fields__}
    inherited = msgspec.structs.asdict(workload)
    for key, dependents in (("model", _OF_MODEL), ("data", _OF_DATA)):
        if given.get(key, inherited[key]) != inherited[key]:
            inherited |= dict.fromkeys(dependents)
    return _Workload(**(inherited | given)), axis_values


def _case(workload: _Workload, axes: dict[str, Any], path: Path, where: str) -> Case:
    def wrong(key: str, what: str) -> BadInputError:
        return BadInputError(f"{path}: `{where}.{key}`: {what}")

    input_shape, num_classes, hidden_size = _shape(workload, wrong)
    _check_data(workload, input_shape, num_classes, path, wrong)
    needs_loader = workload.data in ("loader", "folder")
    num_loader_workers = 2 if workload.num_loader_workers is None else workload.num_loader_workers
    case = Case(
        case_id="",
        model=workload.model,
        data=workload.data,
        **axes,
        input_shape=input_shape,
        num_classes=num_classes,
        hidden_size=hidden_size,
        learning_rate=workload.learning_rate or _LEARNING_RATE.get(workload.model, _DEFAULT_LEARNING_RATE),
        seed=workload.seed,
        data_dir=workload.data_dir,
        num_generated_images=workload.num_generated_images,
        num_loader_workers=num_loader_workers if needs_loader else None,
    )
    return msgspec.structs.replace(case, case_id=case_id(case))


def case_id(case: Case) -> str:
    """Twelve hexadecimal digits from what the case means.

    Fields that are ``None`` do not count, so a field added later, ``None`` by default, keeps old ids.
    """
    meaning = {k: v for k, v in msgspec.structs.asdict(case).items() if v is not None and k != "case_id"}
    return hashlib.blake2s(msgspec.json.encode(meaning, order="sorted")).hexdigest()[:12]


def _shape(workload: _Workload, wrong: Any) -> tuple[tuple[int, ...], int, int | None]:
    model = workload.model
    if model != "mlp" and workload.sizes is not None:
        raise wrong("sizes", 'belongs to model = "mlp"')
    if model == "mlp" or model in _BUILT_IN:
        for key in ("input_shape", "num_classes"):
            if getattr(workload, key) is not None:
                raise wrong(key, f"{model} has its own; the key belongs to a model of yours")
    if model == "mlp":
        if workload.sizes is None:
            raise wrong("sizes", "the mlp needs it: [inputs, hidden, classes]")
        return (workload.sizes[0],), workload.sizes[2], workload.sizes[1]
    if model in _BUILT_IN:
        return (*_BUILT_IN[model], None)
    if not _FACTORY.fullmatch(model):
        allowed = ", ".join([*_BUILT_IN, "mlp"])
        raise wrong("model", f'{model!r} is not one of {allowed}, nor of the form "package.module:factory"')
    if not workload.input_shape or workload.num_classes is None:
        missing = "num_classes" if workload.input_shape else "input_shape"
        raise wrong(
            missing, "a model of yours needs it, e.g. input_shape = [3, 224, 224], num_classes = 1000"
        )
    return workload.input_shape, workload.num_classes, None


def _check_data(
    workload: _Workload, input_shape: tuple[int, ...], num_classes: int, path: Path, wrong: Any
) -> None:
    data = workload.data
    if data != "folder":
        for key in ("data_dir", "num_generated_images"):
            if getattr(workload, key) is not None:
                raise wrong(key, 'belongs to data = "folder"')
    elif (workload.data_dir is None) == (workload.num_generated_images is None):
        raise wrong("data_dir", "folder data needs either data_dir or num_generated_images")
    if data not in ("loader", "folder") and workload.num_loader_workers is not None:
        raise wrong("num_loader_workers", 'belongs to data = "loader" or "folder"')
    if data == "folder" and (len(input_shape) != 3 or input_shape[0] not in (1, 3)):
        raise wrong("data", f"images do not fit an input of shape {list(input_shape)}")
    if data == "digits" and (len(input_shape) != 3 or input_shape[0] != 1 or num_classes < 10):
        raise wrong(
            "data", f"the digits need one channel and 10 classes, not {list(input_shape)}, {num_classes}"
        )
    if workload.data_dir is not None and not (path.parent / workload.data_dir).is_dir():
        raise wrong("data_dir", f"{path.parent / workload.data_dir} is no folder")


def _check_unique(cases: list[Case], path: Path) -> None:
    seen: dict[str, int] = {}
    for number, case in enumerate(cases):
        if case.case_id in seen:
            raise BadInputError(
                f"{path}: `include`: case {number + 1} repeats case {seen[case.case_id] + 1} ({case.case_id})"
            )
        seen[case.case_id] = number
