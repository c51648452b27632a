"""The search for the largest batch: for the terminal, as Markdown, as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchbox.report.markdown_table import pipe_table
from benchbox.report.sentences import environment_line
from benchbox.report.text import (
    UNKNOWN,
    case_label,
    clean,
    duration,
    escape_markdown,
    if_known,
    indented_json,
    memory,
    percent,
)
from benchbox.report.text import significant as rounded
from benchbox.schema import BatchTry, Case, ConfigurationResult, MaxBatchReport

_TITLES = ("configuration", "largest\nbatch", "samples/s", "fastest\nbatch", "samples/s", "peak\nmemory")
_ON_GPU = ("fragmen-\ntation",)
_LAST = ("headroom",)
_TRY_TITLES = ("batch", "outcome", "samples/s", "95 %", "step", "allocated", "reserved", "device", "host RSS")
_STYLES = {"ok": "green", "invalid": "red", "oom": "yellow"}


def configuration_label(case: Case) -> str:
    """The case's label without its batch size."""
    return case_label(case).replace(f" b{case.per_device_batch_size} ", " ", 1)


def try_line(case: Case, tried: BatchTry) -> Text:
    """One line about a try that has ended."""
    line = Text(f"{configuration_label(case)}  batch {tried.per_device_batch_size}  ")
    line.append(tried.outcome, style=_STYLES.get(tried.outcome, "red"))
    if tried.samples_per_second is not None:
        line.append(f"  {rounded(tried.samples_per_second)} samples/s")
    elif tried.reason is not None and tried.outcome != "oom":
        line.append(f"  {clean(tried.reason)}")
    line.append(f"  {duration(tried.duration_s * 1e9)}", style="dim")
    return line


def result_sentence(result: ConfigurationResult) -> str:
    """What was found for one configuration, in words; nothing in it is markup."""
    label, found = configuration_label(result.case), result.largest_batch_size
    match result.ended_by:
        case "nothing-fits":
            why = result.tries[-1].reason if result.tries else None
            nothing = f"{label}: not even batch {result.smallest_failing_batch_size} fits"
            return nothing if why is None else f"{nothing}: {clean(why)}"
        case "failure":
            at_least = "" if found is None else f"; {found} fits at least"
            return f"{label}: {clean(result.reason or '')}{at_least}"
        case "interrupt":
            return f"{label}: interrupted; {'no batch' if found is None else found} is known to fit"
        case "cap":
            return f"{label}: {found} fits, and no larger one was to be tried"
    return f"{label}: {found} fits, {result.smallest_failing_batch_size} does not"


def max_batch_view(report: MaxBatchReport) -> RenderableType:
    """What to print into a terminal. Data never becomes markup."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, title in enumerate(_titles(report)):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for result in report.configurations:
        table.add_row(*(Text(UNKNOWN if cell is None else cell) for cell in _row(report, result)))
    return Group(
        Text(_heading(report), style="bold"),
        table,
        *(Text(result_sentence(result)) for result in report.configurations),
        Text(""),
        *(Text(note, style="dim") for note in _notes(report)),
    )


def render_markdown(report: MaxBatchReport) -> str:
    """The same, with every try of every configuration."""
    titles = [title.replace("-\n", "").replace("\n", " ") for title in _titles(report)]
    lines = [f"# {escape_markdown(_heading(report))}", ""]
    lines += pipe_table(titles, [_row(report, result) for result in report.configurations])
    for result in report.configurations:
        lines += ["", f"## {escape_markdown(configuration_label(result.case))}", ""]
        lines += [escape_markdown(result_sentence(result)), ""]
        tries = sorted(result.tries, key=lambda tried: tried.per_device_batch_size)
        lines += pipe_table(_TRY_TITLES, [_try_row(tried) for tried in tries], num_text_columns=2)
    lines += ["", *(f"{escape_markdown(note)}  " for note in _notes(report)), ""]
    return "\n".join(lines)


def render_json(report: MaxBatchReport) -> str:
    """The whole record."""
    return indented_json(report)


def _heading(report: MaxBatchReport) -> str:
    devices = report.environment.devices
    name = devices[0].name if devices else report.environment.host.cpu_model
    state = "" if report.complete else " (interrupted)"
    return f"{clean(report.suite)}: largest batches on {clean(name)}{state}"


def _titles(report: MaxBatchReport) -> tuple[str, ...]:
    return _TITLES + (_ON_GPU if report.environment.devices else ()) + _LAST


def _row(report: MaxBatchReport, result: ConfigurationResult) -> list[str | None]:
    largest = _tried(result, result.largest_batch_size)
    fastest = _tried(result, result.fastest_batch_size)
    fragmentation = [if_known(result.fragmentation_pct, percent)] if report.environment.devices else []
    return [
        configuration_label(result.case),
        _at_least(result),
        _rate(largest),
        None if fastest is None else str(fastest.per_device_batch_size),
        _rate(fastest),
        if_known(_peak(largest), memory),
        *fragmentation,
        if_known(result.headroom_bytes, memory),
    ]


def _at_least(result: ConfigurationResult) -> str | None:
    if result.largest_batch_size is None:
        return None
    return f"{'' if result.ended_by == 'precision' else '≥ '}{result.largest_batch_size}"


def _try_row(tried: BatchTry) -> list[str | None]:
    return [
        str(tried.per_device_batch_size),
        tried.outcome,
        _rate(tried),
        _range(tried),
        if_known(tried.step_time_ns, duration),
        if_known(tried.peak_memory_allocated_bytes, memory),
        if_known(tried.peak_memory_reserved_bytes, memory),
        if_known(tried.device_memory_used_bytes, memory),
        if_known(tried.peak_host_rss_bytes, memory),
    ]


def _notes(report: MaxBatchReport) -> Iterator[str]:
    on_gpu = bool(report.environment.devices)
    yield (
        f"the largest batch is told to within {rounded(report.precision_pct)} % (at least to within 1); "
        "rates are of short runs, good for comparing batches"
    )
    if on_gpu:
        yield (
            "peak memory is the device's, of the rank with most; fragmentation is memory that torch has "
            "reserved and holds no tensor in, at the largest batch"
        )
    else:
        limits = sorted({r.memory_limit_bytes for r in report.configurations if r.memory_limit_bytes})
        bounds = (
            " to ".join(memory(limit) for limit in dict.fromkeys((limits[0], limits[-1]))) if limits else "?"
        )
        yield (
            f"on a CPU each process was bounded to {bounds} of private memory, or the kernel would have "
            "ended this machine's processes; peak memory is resident"
        )
    beaten = sum(map(_is_largest_slower, report.configurations))
    if beaten:
        yield (
            f"in {beaten} of {len(report.configurations)} a smaller batch than the largest is faster, "
            "by more than the noise of both"
        )
    yield environment_line(report.environment)


def _is_largest_slower(result: ConfigurationResult) -> bool:
    """Whether the fastest try beats that of the largest batch beyond both intervals."""
    fastest, largest = _tried(result, result.fastest_batch_size), _tried(result, result.largest_batch_size)
    if result.ended_by != "precision" or fastest is None or largest is None:
        return False
    mine, others = fastest.samples_per_second_interval, largest.samples_per_second_interval
    return mine is not None and others is not None and mine.low > others.high


def _tried(result: ConfigurationResult, batch_size: int | None) -> BatchTry | None:
    return next((t for t in result.tries if t.per_device_batch_size == batch_size), None)


def _peak(tried: BatchTry | None) -> int | None:
    if tried is None:
        return None
    on_device = tried.device_memory_used_bytes or tried.peak_memory_reserved_bytes
    return on_device or tried.peak_host_rss_bytes


def _range(tried: BatchTry) -> str | None:
    interval = tried.samples_per_second_interval
    return None if interval is None else f"{rounded(interval.low)} to {rounded(interval.high)}"


def _rate(tried: BatchTry | None) -> str | None:
    return None if tried is None else if_known(tried.samples_per_second, rounded)
