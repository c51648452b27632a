"""A process that has imported torch once and forks a fresh worker for every attempt.

Importing torch takes seconds; a fork takes milliseconds. The server itself never touches CUDA and never
computes, so a fork of it starts as clean as a new process does. The controller starts a new server for every
round of repetitions: attempts of one case never share a server, and so not its memory layout either.

Started ``--with-deepspeed`` it has imported DeepSpeed as well. That is for a CPU only: on a GPU's machine
DeepSpeed asks the driver while it is imported, and a fork might find CUDA spoilt.

Lines of JSON on standard input: ``{"task": PATH}`` forks a worker for a task file, with ``"num_ranks"`` one
that is torchrun's agent and starts so many ranks; ``{"facts": PATH}`` forks one that writes
:class:`TorchFacts`, ``{"estimate": PATH}`` one that foretells memory, ``{"ceilings": PATH}`` one that writes
:class:`Ceilings`, ``{"host_adam": PATH}`` one that builds DeepSpeed's Adam for the host and writes why that
cannot be done, or null. Lines on standard output:
``{"started": PID}``, then ``{"ended": PID, "status": N}`` with N negative for a signal. When standard input
closes, the worker and all that it started are killed and the server ends, so nothing outlives a killed
controller.

Torchrun's ranks lead sessions of their own, so a killed group does not take them along. But whatever loses
its parent becomes the server's own child, and is killed as such.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path

import msgspec

from benchbox.schema import EstimateTask, WorkerTask

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ORPHANS_END_WITHIN_S = 5.0


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line from the controller."""

    stderr: str
    task: str | None = None
    num_ranks: int | None = None
    """``None``: the worker trains itself, with no launcher."""
    variables: dict[str, str] = {}
    """Environment of the ranks, or of the build, on top of the server's own."""
    host_adam: str | None = None
    facts: str | None = None
    estimate: str | None = None
    cudnn_benchmark: bool = True
    ceilings: str | None = None
    device: str = "cpu"
    num_threads: int = 0
    """0: as many as torch would take."""
    seconds: float = 0.0


def main() -> None:
    """Serve until standard input closes."""
    import torch._dynamo  # noqa: F401 - torch itself, and what the first optimizer would import

    import benchbox.worker.attempt
    import benchbox.worker.facts  # noqa: F401

    if "--with-deepspeed" in sys.argv:
        _import_deepspeed()
    gc.collect()
    gc.freeze()  # no worker's collector has to walk, and so to copy, what the imports left

    _adopt_orphans()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's to handle
    _say({"ready": os.getpid()})
    child: int | None = None
    pending = b""
    while True:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 512)
            child = _reap(child)
        if 0 in readable:
            received = os.read(0, 65536)
            if not received:
                _end_at_once(child)
                return
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                child, gate = _fork(msgspec.json.decode(line, type=Command))
                _say({"started": child})
                os.close(gate)


def _import_deepspeed() -> None:
    """Import it for all forks; what it prints must not come between the answers.

    Where it cannot be imported the ranks that need it say so themselves, as their case's outcome.
    """
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        from benchbox.worker.strategies.zero import import_quietly

        import_quietly()
    except Exception:  # noqa: BLE001 - whatever a broken installation raises
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os.dup2(answers, 1)
        os.close(answers)


def _say(message: dict[str, int]) -> None:
    os.write(1, msgspec.json.encode(message) + b"\n")


def _adopt_orphans() -> None:
    """Become the parent of what a worker leaves behind, so that its end can be waited for."""
    with contextlib.suppress(OSError, AttributeError):  # then orphans are killed, but not waited for
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(child: int | None) -> int | None:
    """Report the child if it has ended, when nothing that it started is left.

    The group is killed before the child is waited for: until then no new process can get its number.
    """
    if child is None or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return child
    _kill_group(child)  # what the worker left behind, its loader processes for one
    _, status = os.waitpid(child, 0)
    _end_orphans()
    _say({"ended": child, "status": os.waitstatus_to_exitcode(status)})
    return None


def _end_at_once(child: int | None) -> None:
    """Kill the child and all that it started. One that is stuck in the kernel is not waited for."""
    if child is None:
        return
    _kill_group(child)
    deadline = time.monotonic() + _ORPHANS_END_WITHIN_S
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0] == child:
            _end_orphans()
            return
        time.sleep(0.002)


def _end_orphans() -> None:
    """Kill what has become this process's own child, and wait for it: it may hold the device's memory.

    What these leave behind comes here in its turn. The wait is not for ever: a process may be stuck in the
    kernel.
    """
    deadline = time.monotonic() + _ORPHANS_END_WITHIN_S
    with contextlib.suppress(ChildProcessError):  # there is none left
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for pid in _children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.002)


def _children() -> list[int]:
    """The processes whose parent this one is; ``/proc/self/task/*/children`` is missing on many kernels."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path("/proc", name, "stat").read_bytes()
                if int(stat[stat.rindex(b")") + 2 :].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _fork(command: Command) -> tuple[int, int]:
    """The worker's process id, and what it waits for: nothing is worked on until that is closed.

    A model that kills its parent could otherwise do so before the controller knows whom to kill for it.
    """
    wait_read, gate = os.pipe()
    pid = os.fork()
    if pid:
        os.close(wait_read)
        os.setpgid(pid, pid)  # here too, so that the group is there to be killed once the start is told
        return pid, gate
    status = 1
    try:
        os.close(gate)
        os.read(wait_read, 1)
        os.close(wait_read)
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stderr = os.open(command.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(stderr, 1)
        os.dup2(stderr, 2)
        faulthandler.enable()
        _work(command)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here; what ended it belongs on its stderr
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _work(command: Command) -> None:
    from benchbox.worker.attempt import run_attempt, write_aside
    from benchbox.worker.facts import torch_facts
    from benchbox.worker.torchrun import launch_ranks

    if command.task is not None and command.num_ranks is not None:
        launch_ranks(Path(command.task), command.num_ranks, command.variables)
    elif command.task is not None:
        run_attempt(msgspec.json.decode(Path(command.task).read_bytes(), type=WorkerTask))
    if command.host_adam is not None:
        os.environ.update(command.variables)
        from benchbox.worker.strategies.cpu_adam import why_not_built

        write_aside(Path(command.host_adam), msgspec.json.encode(why_not_built()))
    if command.facts is not None:
        facts = torch_facts(command.cudnn_benchmark)
        write_aside(Path(command.facts), msgspec.json.encode(facts))
    if command.estimate is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tracing needs no device and shall hold none
        from benchbox.worker.estimate import run_estimates

        run_estimates(msgspec.json.decode(Path(command.estimate).read_bytes(), type=EstimateTask))
    if command.ceilings is not None:
        from benchbox.worker.ceilings import measure_ceilings

        ceilings = measure_ceilings(command.device, command.num_threads or None, command.seconds)
        write_aside(Path(command.ceilings), msgspec.json.encode(ceilings))


if __name__ == "__main__":
    main()
