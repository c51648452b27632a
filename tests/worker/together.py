"""Starts ranks under torchrun, and is what they run where one start serves several tasks.

As a program it takes a file with paths of tasks. Every rank runs all of them, one after another in one
process group, and then looks into the engines: what they exchange, and what a silent step waits for.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist

from benchbox.schema import RankResult, WorkerTask
from benchbox.worker import attempt
from benchbox.worker.data import make_batches
from benchbox.worker.rank import _end_with_the_parent
from benchbox.worker.ranks import Place, Ranks, join
from benchbox.worker.strategies import ddp, make_engine
from tests.worker.tasks import CPU

ROOT = Path(__file__).parents[2]
HANG_S = 1800  # whatever else the machine does, what takes longer hangs

_EXCHANGES = (
    "all_reduce",
    "all_gather_into_tensor",
    "all_gather_single",
    "reduce_scatter_tensor",
    "reduce_scatter_single",
)


COUNTS: Counter[str] = Counter()
BUCKET_BYTES: list[int] = []
"""Of DDP's buckets, in the order in which its hook got them."""


def torchrun(*command: str, num_ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in every rank, over gloo with one thread each, and wait for all."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--monitor-interval"]
    return subprocess.run(
        [sys.executable, *agent, "0.1", "--nproc-per-node", str(num_ranks), *command],
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


def write_task(task: WorkerTask) -> str:
    """The path of the task's file, in its own folder."""
    path = Path(task.attempt_dir, "case.json")
    path.write_bytes(msgspec.json.encode(task))
    return str(path)


def results(task: WorkerTask) -> list[RankResult]:
    """What the ranks have left, in order."""
    files = sorted(Path(task.attempt_dir).glob("rank*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=RankResult) for path in files]


def main() -> None:
    """Run the tasks, and write ``inside{RANK}.json`` beside each result."""
    _end_with_the_parent()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = Place(rank=rank, local_rank=rank, world_size=world_size)
    ranks = join(place, CPU)
    count_exchanges()
    attempt.join = lambda place, device: ranks  # a group is opened once a process
    for line in Path(sys.argv[1]).read_text().splitlines():
        task = msgspec.json.decode(Path(line).read_bytes(), type=WorkerTask)
        attempt.run_attempt(task, place)
        Path(task.attempt_dir, f"inside{rank}.json").write_bytes(msgspec.json.encode(look(task, ranks)))
    ranks.wait()
    os._exit(0)


def look(task: WorkerTask, ranks: Ranks) -> dict[str, Any]:
    """Bytes of the collectives of a step, by kind and element size, and of one that is silent.

    Ranks take different numbers of silent steps, so a collective that is left would wait for ever.
    """
    engine, batches = make_engine(task.case, CPU, task.import_dirs), make_batches(task, CPU, ranks)
    engine.prepare_silence()
    for _ in range(3):  # DeepSpeed's first steps record what is needed when
        COUNTS.clear()
        engine.step(next(batches))
    loud = dict(COUNTS)
    COUNTS.clear()
    BUCKET_BYTES.clear()
    with engine.silent():
        for _ in range(1 + ranks.place.rank):
            engine.step(next(batches))
    silent = dict(COUNTS)
    ranks.wait()
    must = [msgspec.structs.asdict(collective) for collective in engine.collectives()]
    model = weakref.ref(engine.module)
    engine.close()
    del engine
    gc.collect()
    return {
        "loud": loud,
        "silent": silent,
        "bucket_bytes": sum(BUCKET_BYTES),
        "must": must,
        "model_is_gone": model() is None,
    }


def count_exchanges() -> None:
    """Let torch's collectives add to ``COUNTS``, before DeepSpeed takes hold of them, and DDP's hook to
    ``BUCKET_BYTES``."""
    exchange = ddp._Exchange.of

    def note(self: ddp._Exchange, gradients: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
        BUCKET_BYTES.append(gradients.nbytes)
        return exchange(self, gradients)

    ddp._Exchange.of = note  # type: ignore[method-assign]
    for name in _EXCHANGES:
        if hasattr(dist, name):
            setattr(dist, name, _counting(getattr(dist, name), name))


def _counting(real: Any, name: str) -> Any:
    kind = name.removesuffix("_into_tensor").removesuffix("_single").removesuffix("_tensor")

    def collective(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        largest = max(tensors, key=torch.Tensor.numel)
        COUNTS[f"{kind} {largest.element_size()}"] += largest.numel() * largest.element_size()
        return real(*args, **kwargs)

    return collective


if __name__ == "__main__":
    main()
