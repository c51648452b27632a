"""A suite file becomes cases: axes are crossed, exclusions taken out, inclusions added, all checked."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from benchbox.errors import BadInputError
from benchbox.plan.shipped import shipped_dir
from benchbox.plan.suite_file import Axes, Exclude, Include, SuiteFile, Workload
from benchbox.plan.tomlfile import bad_input, convert, quoted, read_toml
from benchbox.schema import Case, MeasureSettings, Record, Suite

MAX_CASES = 10_000
MAX_EXCLUDES = 1000

# Input shape and classes of the built-in models; the mlp's come from its sizes.
_BUILT_IN: dict[str, tuple[tuple[int, ...], int]] = {
    "reference-cnn": ((3, 224, 224), 1000),
    "small-cnn": ((1, 28, 28), 10),
}
BUILT_IN_MODELS = (*_BUILT_IN, "mlp")
# Adam's customary 1e-3 makes the reference model's loss jump from 7 to 60 in two steps, because one layer
# sums 373,248 inputs; at 1e-5 it falls smoothly, so that precisions can be compared.
_LEARNING_RATE = {"reference-cnn": 1e-5}
_DEFAULT_LEARNING_RATE = 1e-3
_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


_OF_MODEL = ("sizes", "input_shape", "num_classes", "learning_rate")
_PAIR = ("strategy", "world_size")
_OF_DATA = ("data_dir", "num_generated_images", "num_loader_workers")


def find_suite(name_or_path: str) -> Path:
    """The file that the user means: a path, or the name of a shipped suite such as ``quick``.

    Raises:
        BadInputError: there is no such file and no such shipped suite.
    """
    path = Path(name_or_path)
    if os.path.isfile(path):  # noqa: PTH113 - unlike Path's, false and no error for a name of any length
        return path
    shipped = shipped_dir("suites")
    names = sorted(entry.stem for entry in shipped.glob("*.toml"))
    if name_or_path in names:
        return shipped / f"{name_or_path}.toml"
    if name_or_path and os.path.exists(path):  # noqa: PTH110 - as above
        raise bad_input(path, "not a regular file; a suite is a TOML file")
    raise bad_input(path, f"no such file, and not one of the shipped suites ({', '.join(names)})")


def load_suite(path: Path) -> Suite:
    """Read a suite file and cross its axes.

    Raises:
        BadInputError: anything in the file is wrong; the text names the file, the key and what is allowed.
    """
    file = convert(read_toml(path), SuiteFile, path)
    _check_measure(file.measure, path)
    crossed = _cross(file.axes, len(file.include), path)
    kept = _without(crossed, file.exclude, path)
    cases = [_case(file.workload, axes, path, "workload") for axes in kept]
    for number, extra in enumerate(file.include):
        where = f"include[{number}]"
        workload, axes = _apply(file.workload, file.axes, extra)
        if not _is_pair(axes["strategy"], axes["world_size"]):
            raise bad_input(
                path, f"`{where}.world_size`: {axes['world_size']} devices need a strategy other than single"
            )
        cases.append(_case(workload, axes, path, where))
    if not cases:
        raise bad_input(path, "`exclude`: leaves no case to run")
    _check_unique(cases, len(kept), path)
    return Suite(name=path.stem, cases=tuple(cases), measure=file.measure, order_seed=file.workload.seed)


def _check_measure(measure: MeasureSettings, path: Path) -> None:
    for steps in ("warmup_steps", "measured_steps"):
        least, most = getattr(measure, f"min_{steps}"), getattr(measure, f"max_{steps}")
        if least > most:
            raise bad_input(path, f"`measure.max_{steps}`: {most} is less than min_{steps} = {least}")


def _cross(axes: Axes, num_included: int, path: Path) -> list[dict[str, Any]]:
    columns: dict[str, tuple[Any, ...]] = {name: getattr(axes, name) for name in axes.__struct_fields__}
    for name, values in columns.items():
        if not values:
            raise bad_input(path, f"`axes.{name}`: an empty list leaves no case; leave the key out instead")
    num_cases = _num_crossed(axes) + num_included
    if num_cases > MAX_CASES:
        raise bad_input(path, f"`axes`: {num_cases} cases; at most {MAX_CASES} are allowed")
    for name, values in columns.items():
        for place, value in enumerate(values):
            if values.index(value) != place:
                raise bad_input(path, f"`axes.{name}[{place}]`: {_as_toml(value)} stands there twice")
    _check_pairs(axes, path)
    crossed = (dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values()))
    return [case for case in crossed if _is_pair(case["strategy"], case["world_size"])]


def _is_pair(strategy: str, world_size: int) -> bool:
    """``single`` trains on one device; with more it is left out of the cross."""
    return strategy != "single" or world_size == 1


def _num_crossed(axes: Axes) -> int:
    others = [values for name, values in msgspec.structs.asdict(axes).items() if name not in _PAIR]
    num_pairs = sum(itertools.starmap(_is_pair, itertools.product(axes.strategy, axes.world_size)))
    return num_pairs * math.prod(map(len, others))


def _check_pairs(axes: Axes, path: Path) -> None:
    """Refuse a value that the cross would leave out altogether: it was meant for something."""
    for place, world_size in enumerate(axes.world_size):
        if not any(_is_pair(strategy, world_size) for strategy in axes.strategy):
            raise bad_input(
                path, f"`axes.world_size[{place}]`: {world_size} devices need a strategy other than single"
            )
    if "single" in axes.strategy and 1 not in axes.world_size:
        place = axes.strategy.index("single")
        raise bad_input(path, f"`axes.strategy[{place}]`: single needs world_size 1, which is not listed")


def _as_toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _without(
    crossed: list[dict[str, Any]], excludes: tuple[Exclude, ...], path: Path
) -> list[dict[str, Any]]:
    if len(excludes) > MAX_EXCLUDES:
        raise bad_input(path, f"`exclude`: {len(excludes)} tables; at most {MAX_EXCLUDES} are allowed")
    for number, exclude in enumerate(excludes):
        wanted = _given(exclude)
        if not wanted:
            raise bad_input(path, f"`exclude[{number}]`: names no axis, so it would take out every case")
        kept = [axes for axes in crossed if any(axes[name] != value for name, value in wanted.items())]
        if len(kept) == len(crossed):
            raise bad_input(path, f"`exclude[{number}]`: matches no case (that is left)")
        crossed = kept
    return crossed


def _given(record: Record) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(record).items() if value is not UNSET}


def _apply(workload: Workload, axes: Axes, extra: Include) -> tuple[Workload, dict[str, Any]]:
    """One included case: what it names, the rest from ``[workload]`` and from the axes' defaults.

    Keys that belong to another model or another kind of data than the included one are not inherited.
    """
    given = _given(extra)
    axis_values = {name: given.pop(name, getattr(Axes(), name)[0]) for name in axes.__struct_fields__}
    inherited = msgspec.structs.asdict(workload)
    for key, dependents in (("model", _OF_MODEL), ("data", _OF_DATA)):
        if given.get(key, inherited[key]) != inherited[key]:
            inherited |= dict.fromkeys(dependents)
    return Workload(**(inherited | given)), axis_values


def _case(workload: Workload, axes: dict[str, Any], path: Path, where: str) -> Case:
    def wrong(key: str, what: str) -> BadInputError:
        return bad_input(path, f"`{where}.{key}`: {what}")

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


def _shape(workload: Workload, wrong: Any) -> tuple[tuple[int, ...], int, int | None]:
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
        raise wrong(
            "model", f'{quoted(model)} is not one of {allowed}, nor of the form "package.module:factory"'
        )
    if not workload.input_shape or workload.num_classes is None:
        missing = "num_classes" if workload.input_shape else "input_shape"
        raise wrong(
            missing, "a model of yours needs it, e.g. input_shape = [3, 224, 224], num_classes = 1000"
        )
    return workload.input_shape, workload.num_classes, None


def _check_data(
    workload: Workload, input_shape: tuple[int, ...], num_classes: int, path: Path, wrong: Any
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
    if workload.data_dir is not None and not os.path.isdir(path.parent / workload.data_dir):  # noqa: PTH112
        raise wrong("data_dir", f"{quoted(str(path.parent / workload.data_dir))} is no folder")


def _check_unique(cases: list[Case], num_crossed: int, path: Path) -> None:
    """Crossed cases differ by construction, so only an included one can repeat another."""
    seen: dict[str, int] = {}
    for number, case in enumerate(cases):
        first = seen.setdefault(case.case_id, number)
        if first != number:
            raise bad_input(
                path, f"`include[{number - num_crossed}]`: repeats case {first + 1} ({case.case_id})"
            )
