"""What befalls a process, for the programs beside this one: each of them is run by tests/test_storage.py."""

import os
import resource
import signal
import tempfile
from collections.abc import Callable

import storage


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def limit_files() -> None:
    """Let no file grow beyond 1,000 bytes: Python ignores the signal, so that writing on is an OSError."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def die_halfway() -> None:
    """Die at the byte after the thousandth."""
    limit_files()
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def die_late() -> None:
    """Die when everything is written and only a name is to be changed."""
    os.replace = die


def fill_disk() -> None:
    """Leave no room where the series writes."""
    global filler  # has no name and goes with the process
    filler = tempfile.TemporaryFile(dir=storage.OUTPUT, buffering=0)
    try:
        while filler.write(bytes(4096)):
            pass
    except OSError:
        pass


def become_nobody() -> None:
    """Lay down root's rights, which no permission bit holds back."""
    if os.geteuid() == 0:
        os.seteuid(65534)


def in_a_fork(do: Callable[[], object], disaster: Callable[[], object] = lambda: None) -> int:
    """Meet the disaster and do it; print what an OSError says, and return how the process ended."""
    if (child := os.fork()) == 0:
        try:
            disaster()
            do()
        except OSError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
