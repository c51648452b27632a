from __future__ import annotations

import itertools
import math
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchbox.errors import BadInputError
from benchbox.plan import suite as suite_module
from benchbox.plan.suite import case_id, find_suite, load_suite
from benchbox.plan.suite_file import Axes, Include, SuiteFile, Workload
from benchbox.schema import Case, MeasureSettings, Suite

SMALL = '[workload]\nmodel = "small-cnn"\n'
AXES = Axes.__struct_fields__


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_text(text: str | bytes) -> Suite:
        path = tmp_path / "s.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_suite(path)

    return load_text


@pytest.fixture
def complaint(load: Any, tmp_path: Path) -> Any:
    """What the user reads after the file's name; checks what is true of every complaint."""

    def complain(text: str | bytes) -> str:
        with pytest.raises(BadInputError) as caught:
            load(text)
        message = str(caught.value)
        start = f"{tmp_path / 's.toml'}: "
        assert message.startswith(start)
        assert message.isprintable()
        assert len(message) < len(start) + 900
        return message.removeprefix(start)

    return complain


# --- what a suite means ------------------------------------------------------------------------------------


def test_an_empty_file_is_the_reference_model_with_every_default(load: Any) -> None:
    suite = load("")
    assert suite.name == "s"
    assert suite.measure == MeasureSettings()
    assert suite.order_seed == 0
    (case,) = suite.cases
    assert case == Case(
        case_id=case.case_id,
        model="reference-cnn",
        data="device",
        per_device_batch_size=32,
        precision="fp32",
        gradient_checkpointing=False,
        strategy="single",
        world_size=1,
        gradient_accumulation_steps=1,
        memory_format="contiguous",
        compile=False,
        input_shape=(3, 224, 224),
        num_classes=1000,
        hidden_size=None,
        learning_rate=1e-5,
        seed=0,
        data_dir=None,
        num_generated_images=None,
        num_loader_workers=None,
    )


def test_every_axis_is_crossed_with_every_other_in_the_files_order(load: Any) -> None:
    columns: dict[str, list[Any]] = {
        "per_device_batch_size": [8, 2],
        "precision": ["bf16", "fp32"],
        "gradient_checkpointing": [True, False],
        "strategy": ["ddp", "single"],
        "world_size": [2, 1],
        "gradient_accumulation_steps": [3, 1],
        "memory_format": ["channels_last", "contiguous"],
        "compile": [True, False],
    }
    assert tuple(columns) == AXES
    cases = load(SMALL + tomli_w.dumps({"axes": columns})).cases
    crossed = [tuple(getattr(case, axis) for axis in AXES) for case in cases]
    strategy, world_size = AXES.index("strategy"), AXES.index("world_size")
    expected = [
        case
        for case in itertools.product(*columns.values())
        if (case[strategy], case[world_size]) != ("single", 2)  # single trains on one device
    ]
    assert crossed == expected
    assert len(crossed) == 192


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        ('model = "small-cnn"', ((1, 28, 28), 10, None, 1e-3)),
        ('model = "mlp"\nsizes = [20, 30, 5]', ((20,), 5, 30, 1e-3)),
        ('model = "a.b:c"\ninput_shape = [7, 3]\nnum_classes = 4', ((7, 3), 4, None, 1e-3)),
        ('model = "reference-cnn"\nlearning_rate = 0.5', ((3, 224, 224), 1000, None, 0.5)),
    ],
)
def test_each_model_has_its_own_shapes_and_learning_rate(load: Any, workload: str, expected: object) -> None:
    (case,) = load(f"[workload]\n{workload}\n").cases
    assert (case.input_shape, case.num_classes, case.hidden_size, case.learning_rate) == expected


def test_a_factory_has_any_name_that_python_allows(load: Any) -> None:
    text = "[workload]\nmodel = 'größe.modèle:двa'\ninput_shape = [4]\nnum_classes = 2\n"
    (case,) = load(text).cases
    assert case.model == "größe.modèle:двa"


@pytest.mark.parametrize(
    ("data", "given_workers", "workers"),
    [
        ("device", "", None),
        ("host", "", None),
        ("digits", "", None),
        ("loader", "", 2),
        ("loader", "num_loader_workers = 0", 0),
        ("folder", "num_generated_images = 4", 2),
        ("folder", "num_generated_images = 4\nnum_loader_workers = 5", 5),
    ],
)
def test_only_data_that_needs_a_loader_gets_workers(
    load: Any, data: str, given_workers: str, workers: int | None
) -> None:
    (case,) = load(f'{SMALL}data = "{data}"\n{given_workers}\n').cases
    assert case.num_loader_workers == workers


def test_the_seed_also_orders_the_attempts(load: Any) -> None:
    suite = load("[workload]\nseed = 11\n")
    assert (suite.order_seed, suite.cases[0].seed) == (11, 11)


def test_the_global_batch_counts_ranks_and_accumulation(load: Any) -> None:
    ranks = "strategy = ['ddp']\nworld_size = [4]"
    (case,) = load(f"[axes]\n{ranks}\nper_device_batch_size = [8]\ngradient_accumulation_steps = [3]").cases
    assert case.global_batch_size == 96


def test_a_folder_is_looked_for_beside_the_suite(load: Any, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (case,) = load(SMALL + 'data = "folder"\ndata_dir = "images"\n').cases
    assert case.data_dir == "images"


# --- exclude and include -----------------------------------------------------------------------------------

TWO_BY_TWO = SMALL + '[axes]\nprecision = ["fp32", "bf16"]\nper_device_batch_size = [1, 2]\n'


def axes_of(suite: Suite) -> list[tuple[str, int]]:
    return [(case.precision, case.per_device_batch_size) for case in suite.cases]


def test_an_exclude_takes_out_cases_that_have_all_its_values(load: Any) -> None:
    suite = load(TWO_BY_TWO + '[[exclude]]\nprecision = "fp32"\nper_device_batch_size = 2\n')
    assert axes_of(suite) == [("fp32", 1), ("bf16", 1), ("bf16", 2)]


def test_excludes_work_one_after_another(load: Any) -> None:
    suite = load(TWO_BY_TWO + '[[exclude]]\nprecision = "fp32"\n[[exclude]]\nper_device_batch_size = 1\n')
    assert axes_of(suite) == [("bf16", 2)]


def test_an_include_takes_defaults_and_not_the_axes_first_values(load: Any) -> None:
    suite = load(TWO_BY_TWO + "[[include]]\ncompile = true\n")
    assert axes_of(suite)[-1] == ("fp32", 32)
    assert suite.cases[-1].compile
    assert suite.cases[-1].model == "small-cnn"


def test_an_include_is_not_touched_by_an_exclude(load: Any) -> None:
    suite = load(
        TWO_BY_TWO
        + '[[exclude]]\nprecision = "fp32"\n[[include]]\nprecision = "fp32"\nper_device_batch_size = 1\n'
    )
    assert axes_of(suite) == [("bf16", 1), ("bf16", 2), ("fp32", 1)]


def test_an_included_case_may_be_all_that_is_left(load: Any) -> None:
    suite = load(SMALL + '[[exclude]]\nprecision = "fp32"\n[[include]]\nprecision = "bf16"\n')
    assert axes_of(suite) == [("bf16", 32)]


def test_an_include_of_another_model_inherits_nothing_of_the_first(load: Any) -> None:
    mlp = '[workload]\nmodel = "mlp"\nsizes = [4, 5, 6]\nlearning_rate = 0.25\nseed = 3\n'
    first, second = load(mlp + '[[include]]\nmodel = "small-cnn"\n').cases
    assert first.learning_rate == 0.25
    assert (second.hidden_size, second.learning_rate, second.input_shape) == (None, 1e-3, (1, 28, 28))
    assert second.seed == 3  # belongs to no model


def test_an_include_of_other_data_inherits_nothing_of_the_first(load: Any) -> None:
    folder = SMALL + 'data = "folder"\nnum_generated_images = 9\nnum_loader_workers = 4\n'
    _, other = load(folder + '[[include]]\ndata = "loader"\n').cases
    assert (other.num_generated_images, other.num_loader_workers) == (None, 2)


def test_an_include_of_the_same_model_and_data_inherits_all(load: Any) -> None:
    workload = '[workload]\nmodel = "mlp"\nsizes = [4, 5, 6]\ndata = "loader"\nnum_loader_workers = 1\n'
    first, second = load(workload + '[[include]]\nmodel = "mlp"\ndata = "loader"\ncompile = true\n').cases
    assert second == msgspec.structs.replace(first, case_id=second.case_id, compile=True)


def test_an_include_can_name_whatever_a_workload_and_an_axis_can() -> None:
    assert set(Include.__struct_fields__) == {*Workload.__struct_fields__, *AXES}


# --- ids ---------------------------------------------------------------------------------------------------


def test_ids_are_those_of_earlier_versions(load: Any) -> None:
    """Reports of different versions are joined by id: these may never change."""
    text = SMALL + '[[include]]\nmodel = "reference-cnn"\nprecision = "bf16"\n'
    text += '[[include]]\nmodel = "mlp"\nsizes = [784, 512, 10]\n'
    text += '[[include]]\ndata = "folder"\nnum_generated_images = 8\n'
    assert [case.case_id for case in load(text).cases] == [
        "dea1e00a8eeb",
        "8b434b81edb1",
        "6ae7f9d76493",
        "d0bdf6e78aea",
    ]


def test_an_id_does_not_depend_on_where_the_case_stands(load: Any) -> None:
    crossed = load('[axes]\nprecision = ["fp32", "bf16"]\n').cases[1]
    alone = load('[axes]\nprecision = ["bf16"]\n').cases[0]
    included = load('[[include]]\nprecision = "bf16"\n').cases[1]
    assert crossed == alone == included


def test_an_id_depends_on_what_is_meant_and_not_on_how_it_is_said(load: Any) -> None:
    said = load('[workload]\nmodel = "reference-cnn"\nlearning_rate = 1e-5\nseed = 0\n').cases
    assert said == load("").cases


CHANGED: dict[str, Any] = {
    "model": "small-cnn",
    "data": "host",
    "per_device_batch_size": 33,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "strategy": "ddp",
    "world_size": 2,
    "gradient_accumulation_steps": 2,
    "memory_format": "channels_last",
    "compile": True,
    "input_shape": (224, 3, 224),
    "num_classes": 1001,
    "hidden_size": 1,
    "learning_rate": 2e-5,
    "seed": 1,
    "data_dir": "images",
    "num_generated_images": 1,
    "num_loader_workers": 0,
}


@pytest.mark.parametrize("field", [name for name in Case.__struct_fields__ if name != "case_id"])
def test_an_id_changes_with_every_field_that_means_something(load: Any, field: str) -> None:
    (case,) = load("").cases
    changed = msgspec.structs.replace(case, **{field: CHANGED[field]})
    assert case_id(changed) != case.case_id


def test_an_id_does_not_depend_on_the_id(load: Any) -> None:
    (case,) = load("").cases
    assert case_id(msgspec.structs.replace(case, case_id="other")) == case.case_id


# --- finding suites ----------------------------------------------------------------------------------------


SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "suites").glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_suites_are_found_by_name_and_load(name: str) -> None:
    suite = load_suite(find_suite(name))
    assert suite.name == name
    assert len({case.case_id for case in suite.cases}) == len(suite.cases)


def test_the_reference_suite_is_the_whole_cross() -> None:
    cases = load_suite(find_suite("reference")).cases
    assert len(cases) >= 5 * 4 * 2 * 2
    assert {case.precision for case in cases} == {"fp32", "tf32", "bf16", "fp16"}


def test_the_quick_suite_has_a_case_of_each_kind_of_input() -> None:
    cases = load_suite(find_suite("quick")).cases
    assert {case.data for case in cases} == {"device", "host", "loader", "folder", "digits"}
    assert {case.model for case in cases} == {"reference-cnn", "small-cnn", "mlp"}


def test_a_file_beats_a_shipped_suite_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick").write_text("")
    assert find_suite("quick") == Path("quick")


@pytest.mark.parametrize("name", ["nothing", "a/b.toml", "", "a\0b", "x" * 5000, "\x1b[2J"])
def test_a_name_of_nothing_gets_the_names_that_there_are(name: str) -> None:
    with pytest.raises(BadInputError, match=r"no such file") as caught:
        find_suite(name)
    assert str(caught.value).endswith(f"({', '.join(SHIPPED)})")
    assert str(caught.value).isprintable()


def test_a_folder_is_found_to_be_no_suite(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"not a regular file; a suite is a TOML file$"):
        find_suite(str(tmp_path))


# --- bad input ---------------------------------------------------------------------------------------------

FOLDER = SMALL + 'data = "folder"\n'
OWN = '[workload]\nmodel = "a:b"\n'

WRONG_KEYS = [
    ("foo = 1", "unknown field `foo`; allowed: workload, axes, exclude, include, measure"),
    ("[workload]\nbatch = 1", "`workload`: object contains unknown field `batch`; allowed: model, data,"),
    ("[axes]\nmodel = ['mlp']", "`axes`: object contains unknown field `model`; allowed: per_device_"),
    ("[measure]\nhz = 1", "`measure`: object contains unknown field `hz`; allowed: repetitions,"),
    ("[[exclude]]\nmodel = 'mlp'", "`exclude[0]`: object contains unknown field `model`; allowed: per_"),
    ("[[include]]\ncompile = true\n[[include]]\na = 1", "`include[1]`: object contains unknown field `a`"),
    ('[axes]\n"\\u001b[2J\\u0007\\n" = 1', "`axes`: object contains unknown field `[2J`"),
    (f'"{"k" * 100_000}" = 1', "unknown field `kkkk"),
]
WRONG_TYPES = [
    ("axes = 1", "`axes`: expected `object`, got `int`"),
    ("include = 1", "`include`: expected `array`, got `int`"),
    ("[include]\ncompile = true", "`include`: expected `array`, got `object`"),
    ("include = [1]", "`include[0]`: expected `object`, got `int`"),
    ("[axes]\nprecision = 'fp32'", "`axes.precision`: expected `array`, got `str`"),
    ("[axes]\nprecision = [32]", "`axes.precision[0]`: expected `str`, got `int`"),
    ("[axes]\ncompile = [1]", "`axes.compile[0]`: expected `bool`, got `int`"),
    ("[axes]\nworld_size = [true]", "`axes.world_size[0]`: expected `int`, got `bool`"),
    ("[axes]\nworld_size = [1.0]", "`axes.world_size[0]`: expected `int`, got `float`"),
    ("[axes]\nworld_size = [1979-05-27]", "`axes.world_size[0]`: expected `int`, got `date`"),
    ("[axes]\nworld_size = [[1]]", "`axes.world_size[0]`: expected `int`, got `array`"),
    ("[workload]\nnum_loader_workers = 'two'", "`workload.num_loader_workers`: expected `int`, got `str`"),
    ("[measure]\nmax_seconds = '20'", "`measure.max_seconds`: expected `float`, got `str`"),
]
WRONG_WORDS = [
    (
        "[axes]\nprecision = ['fp32', 'bf61']",
        "`axes.precision[1]`: invalid enum value 'bf61'; allowed: bf16, fp16, fp32, tf32",
    ),
    (
        "[axes]\nstrategy = ['dp']",
        "`axes.strategy[0]`: invalid enum value 'dp'; allowed: ddp, fsdp2, single,",
    ),
    (
        "[axes]\nmemory_format = ['']",
        "`axes.memory_format[0]`: invalid enum value ''; allowed: channels_last,",
    ),
    ("[workload]\ndata = 'disk'", "`workload.data`: invalid enum value 'disk'; allowed: device, digits,"),
    ("[[exclude]]\nprecision = 'x'", "`exclude[0].precision`: invalid enum value 'x'; allowed: bf16,"),
    ("[[include]]\ndata = 'x'", "`include[0].data`: invalid enum value 'x'; allowed: device,"),
    ("[measure]\nhost_allocator = 'x'", "`measure.host_allocator`: invalid enum value 'x'; allowed: system,"),
    (
        "[workload]\nmodel = 'resnet'",
        "`workload.model`: 'resnet' is not one of reference-cnn, small-cnn, mlp",
    ),
    (f"[workload]\nmodel = '{'m' * 9999}'", "`workload.model`: 'mmm"),
    ('[workload]\nmodel = "\\u001b[2J"', "`workload.model`: '[2J' is not one of"),
    *(
        (f"[workload]\nmodel = '{model}'", 'nor of the form "package.module:factory"')
        for model in ("a:", ":b", "a:b:c", "a b:c", "1a:b", "a..b:c", "a:b.c", "a:b()")
    ),
]
WRONG_NUMBERS = [
    ("[axes]\nper_device_batch_size = [0]", "`axes.per_device_batch_size[0]`: expected `int` >= 1"),
    ("[axes]\nworld_size = [1, -1]", "`axes.world_size[1]`: expected `int` >= 1"),
    (f"[axes]\nworld_size = [{2**48 + 1}]", f"`axes.world_size[0]`: expected `int` <= {2**48}"),
    (f"[axes]\nworld_size = [{2**64}]", f"`axes.world_size[0]`: expected `int` <= {2**48}"),
    (f"[axes]\nworld_size = [{'9' * 4000}]", "`axes.world_size[0]`: expected `int` <="),
    (f"[axes]\nworld_size = [{'9' * 5000}]", "not valid TOML: an integer of thousands of digits"),
    (f"[workload]\nseed = {2**64}", "`workload.seed`: expected `int` <="),
    (f"[workload]\nseed = 0x{'f' * 9000}", "`workload.seed`: expected `int` <="),
    ("[workload]\nseed = -1", "`workload.seed`: expected `int` >= 0"),
    ("[workload]\nnum_loader_workers = 100000", "`workload.num_loader_workers`: expected `int` <= 1024"),
    ("[workload]\nnum_generated_images = 1000000", "`workload.num_generated_images`: expected `int` <="),
    ("[workload]\nlearning_rate = 0", "`workload.learning_rate`: expected `float` > 0"),
    ("[workload]\nlearning_rate = inf", "`workload.learning_rate`: expected `float` <"),
    ("[workload]\nlearning_rate = nan", "`workload.learning_rate`: expected `float` > 0"),
    (f"[workload]\nlearning_rate = {'9' * 4000}", "`workload.learning_rate`: number out of range"),
    ("[measure]\nmax_seconds = nan", "`measure.max_seconds`: expected `float` > 0"),
    ("[measure]\nmax_seconds = inf", "`measure.max_seconds`: expected `float` <= 86400"),
    ("[measure]\nmax_seconds = -inf", "`measure.max_seconds`: expected `float` > 0"),
    ("[measure]\ntelemetry_hz = -1", "`measure.telemetry_hz`: expected `float` >= 0"),
    ("[measure]\ntimeout_s = 0", "`measure.timeout_s`: expected `float` > 0"),
    ("[measure]\nrepetitions = 0", "`measure.repetitions`: expected `int` >= 1"),
    ("[measure]\nmin_measured_steps = 9\nmax_measured_steps = 8", "`measure.max_measured_steps`: 8 is less"),
    ("[measure]\nmax_warmup_steps = 2", "`measure.max_warmup_steps`: 2 is less than min_warmup_steps = 3"),
]
PAIRS = "[axes]\nstrategy = ['ddp', 'single']\nworld_size = [1, 2]\n"
WRONG_LISTS = [
    *((f"[axes]\n{axis} = []", f"`axes.{axis}`: an empty list") for axis in AXES),
    ("[axes]\nprecision = ['fp32', 'bf16', 'fp32']", "`axes.precision[2]`: 'fp32' stands there twice"),
    ("[axes]\ncompile = [true, true]", "`axes.compile[1]`: true stands there twice"),
    (
        f"[axes]\nper_device_batch_size = {list(range(1, 10_002))}",
        "`axes`: 10001 cases; at most 10000 are allowed",
    ),
    (f"[axes]\nper_device_batch_size = {list(range(1, 100_000))}", "`axes`: 99999 cases; at most 10000"),
    ("[[include]]\ncompile = true\n" * 10_000, "`axes`: 10001 cases; at most 10000"),
    ("[[exclude]]\ncompile = true\n" * 1001, "`exclude`: 1001 tables; at most 1000 are allowed"),
    ("[[exclude]]", "`exclude[0]`: names no axis"),
    ("[[exclude]]\nprecision = 'bf16'", "`exclude[0]`: matches no case"),
    ("[[exclude]]\nprecision = 'fp32'", "`exclude`: leaves no case to run"),
    ("[[include]]\nprecision = 'fp32'", "`include[0]`: repeats case 1"),
    ("[axes]\nworld_size = [1, 2]", "`axes.world_size[1]`: 2 devices need a strategy other than single"),
    (
        "[axes]\nstrategy = ['ddp', 'single']\nworld_size = [2, 4]",
        "`axes.strategy[1]`: single needs world_size 1, which is not listed",
    ),
    ("[[include]]\nworld_size = 2", "`include[0].world_size`: 2 devices need a strategy other than single"),
    (PAIRS + "[[exclude]]\nstrategy = 'single'\nworld_size = 2", "`exclude[0]`: matches no case"),
    (
        "[axes]\ncompile = [false, true]\n" + "[[include]]\nprecision = 'bf16'\n" * 2,
        "`include[1]`: repeats case 3",
    ),
]
WRONG_COMBINATIONS = [
    (FOLDER, "`workload.data_dir`: folder data needs either data_dir or num_generated_images"),
    (FOLDER + "data_dir = 'x'\nnum_generated_images = 3", "`workload.data_dir`: folder data needs either"),
    (FOLDER + "data_dir = 'x'", "/x' is no folder"),
    (FOLDER + "data_dir = 's.toml'", "/s.toml' is no folder"),
    (FOLDER + 'data_dir = "a\\u0000b\\u001b"', "`workload.data_dir`: "),
    (FOLDER + f"data_dir = '{'d' * 5000}'", "`workload.data_dir`: "),
    (SMALL + "data_dir = 'x'", '`workload.data_dir`: belongs to data = "folder"'),
    (SMALL + "num_generated_images = 3", '`workload.num_generated_images`: belongs to data = "folder"'),
    (
        SMALL + "num_loader_workers = 3",
        '`workload.num_loader_workers`: belongs to data = "loader" or "folder"',
    ),
    (SMALL + "sizes = [1, 2, 3]", '`workload.sizes`: belongs to model = "mlp"'),
    (SMALL + "input_shape = [1]", "`workload.input_shape`: small-cnn has its own"),
    (SMALL + "num_classes = 3", "`workload.num_classes`: small-cnn has its own"),
    ("[workload]\nmodel = 'mlp'", "`workload.sizes`: the mlp needs it: [inputs, hidden, classes]"),
    ("[workload]\nmodel = 'mlp'\nsizes = [1, 2]", "`workload.sizes`: expected `array` of length 3, got 2"),
    ("[workload]\nmodel = 'mlp'\nsizes = [1, 0, 3]", "`workload.sizes[1]`: expected `int` >= 1"),
    (OWN, "`workload.input_shape`: a model of yours needs it"),
    (OWN + "input_shape = []\nnum_classes = 2", "`workload.input_shape`: a model of yours needs it"),
    (OWN + "input_shape = [4]", "`workload.num_classes`: a model of yours needs it"),
    (
        OWN + "input_shape = [4]\nnum_classes = 2\ndata = 'folder'\nnum_generated_images = 3",
        "`workload.data`: images do not fit an input of shape [4]",
    ),
    (
        OWN + "input_shape = [2, 8, 8]\nnum_classes = 2\ndata = 'folder'\nnum_generated_images = 3",
        "`workload.data`: images do not fit an input of shape [2, 8, 8]",
    ),
    (
        "[workload]\ndata = 'digits'",
        "`workload.data`: the digits need one channel and 10 classes, not [3, 224,",
    ),
    (
        OWN + "input_shape = [1, 8, 8]\nnum_classes = 9\ndata = 'digits'",
        "`workload.data`: the digits need one channel and 10 classes, not [1, 8, 8], 9",
    ),
    ("[[include]]\nmodel = 'mlp'", "`include[0].sizes`: the mlp needs it"),
    ("[[include]]\ndata = 'folder'", "`include[0].data_dir`: folder data needs either"),
]
NOT_TOML = [
    ("[axes", "not valid TOML: "),
    ("a = 1\na = 2", "not valid TOML: Cannot overwrite a value"),
    (b"a\0b = 1", "not valid TOML: "),
    (b"a = '\0'", "character '\\x00'"),
    (b"a = '\x1b'", "character '\\x1b'"),
    (b"# caf\xe9", "not UTF-8 at byte 5"),
    (b"\xff\xfe[\0a\0]\0", "not UTF-8 at byte 0"),
    ("a = " + "[" * 100_000, "not valid TOML: nested too deeply"),
    ("a = " + "{a=" * 100_000, "not valid TOML: nested too deeply"),
    ("a" + ".a" * 100_000 + " = 1", "line 1: more than 500 dots"),
    ("#" * 1_100_000, "larger than 1048576 bytes"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(text, expected, id=expected[:60])
        for text, expected in itertools.chain(
            WRONG_KEYS, WRONG_TYPES, WRONG_WORDS, WRONG_NUMBERS, WRONG_LISTS, WRONG_COMBINATIONS, NOT_TOML
        )
    ],
)
def test_what_is_wrong_is_said_in_one_line(complaint: Any, text: str | bytes, expected: str) -> None:
    assert expected in complaint(text)


def test_exactly_the_largest_number_of_cases_is_allowed(load: Any) -> None:
    suite = load(SMALL + f"[axes]\nper_device_batch_size = {list(range(1, suite_module.MAX_CASES + 1))}")
    assert len(suite.cases) == suite_module.MAX_CASES


def test_pairs_that_are_left_out_of_the_cross_do_not_count(load: Any) -> None:
    world_sizes = list(range(1, suite_module.MAX_CASES))
    suite = load(SMALL + f"[axes]\nstrategy = ['single', 'ddp']\nworld_size = {world_sizes}")
    assert len(suite.cases) == suite_module.MAX_CASES


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"x\.toml: cannot be read: No such file or directory$"):
        load_suite(tmp_path / "x.toml")


def test_a_folder_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r": cannot be read: Is a directory$"):
        load_suite(tmp_path)


def test_a_path_with_control_characters_is_shown_without_them(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        load_suite(tmp_path / "a\x1b[2J\n\0.toml")
    assert str(caught.value).isprintable()


# --- anything at all ---------------------------------------------------------------------------------------

KEYS = sorted(
    {name for record in (SuiteFile, Workload, Axes, MeasureSettings) for name in record.__struct_fields__}
)
WORDS = ["fp32", "bf16", "device", "folder", "loader", "digits", "mlp", "small-cnn", "a:b", "single", "x"]
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-2, 40),
    st.integers(),
    st.integers(min_value=2**60, max_value=2**90),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(KEYS) | st.text(string.printable, max_size=4), inner, max_size=4),
    ),
    max_leaves=12,
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    name: st.lists(st.sampled_from(WORDS) | st.booleans() | st.integers(0, 9), max_size=3) for name in AXES
}
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "workload": st.dictionaries(st.sampled_from(Workload.__struct_fields__), VALUES, max_size=5),
        "axes": st.fixed_dictionaries({}, optional=LIKELY),
        "exclude": st.lists(st.dictionaries(st.sampled_from(AXES), SCALARS, max_size=2), max_size=2),
        "include": st.lists(
            st.dictionaries(st.sampled_from(Include.__struct_fields__), VALUES, max_size=3), max_size=2
        ),
        "measure": st.dictionaries(st.sampled_from(MeasureSettings.__struct_fields__), SCALARS, max_size=3),
    },
)


def loads_or_is_refused(path: Path) -> None:
    suite, complaint = None, ""
    try:
        suite = load_suite(path)
    except BadInputError as error:
        complaint = str(error)
    assert complaint.isprintable()
    if suite is not None:
        assert msgspec.json.decode(msgspec.json.encode(suite), type=Suite) == suite
        assert math.isfinite(suite.measure.effective_timeout_s)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(TABLES, st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)))
def test_any_toml_is_a_suite_or_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "any.toml"
    path.write_text(tomli_w.dumps(data))
    loads_or_is_refused(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(string.printable + "[]\"'=.", max_size=200).map(str.encode))
def test_any_bytes_are_a_suite_or_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(data)
    loads_or_is_refused(path)
