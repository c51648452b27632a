"""One of several ranks: the process that torchrun forks to run this file with a task file as its argument, or
starts as ``python -m benchbox.worker.rank TASK``.

It ends with status 0 only if its case is well, and otherwise at once: torchrun ends the other ranks as soon
as it sees another status, whatever collective they wait in.
"""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import traceback
from pathlib import Path

import msgspec

from benchbox.schema import WorkerTask

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Run the task, and end this process with all its threads; a fork that went well, torchrun lets end."""
    status = 1
    try:
        _end_with_the_parent()
        _end_when_told()
        task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=WorkerTask)
        _print_into(Path(task.attempt_dir, f"stderr.rank{os.environ['RANK']}.txt"))
        faulthandler.enable()
        status = _run(task)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here; what ended it belongs on its stderr
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if status or multiprocessing.parent_process() is None:
            os._exit(status)  # taking process groups down in order waits for ranks that may be gone


def _end_with_the_parent() -> None:
    """Have the kernel kill this process when torchrun's agent is gone, however it went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _end_when_told() -> None:
    """Drop the handlers that a fork of torchrun's agent has from it: Python runs none inside a collective."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _print_into(path: Path) -> None:
    stderr = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    os.close(stderr)


def _run(task: WorkerTask) -> int:
    import torch

    from benchbox.worker.attempt import run_attempt
    from benchbox.worker.ranks import Place

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # a fork has read what stood there before
    place = Place(
        rank=int(os.environ["RANK"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        node=int(os.environ["GROUP_RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    return 0 if run_attempt(task, place) else 1


if __name__ == "__main__":
    main()
