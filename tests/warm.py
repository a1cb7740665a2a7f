"""Run `python ARGUMENTS` in processes forked from one that has already imported torch, BasicSR and this package.

A start from a shell spends five seconds on imports. Tests of the start itself use subprocess: entry points, torchrun,
closed streams, locales, and the imports of a module.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

IMPORTED = (
    "rgt_arch.cli.basicsr_command",
    "rgt_arch.training.loop",
    "torch.distributed.nn",
    "torch.utils.tensorboard",
)
LIMIT = 300.0
"""Seconds after which a process counts as hung."""


# --- client: the tests ---


class Process:
    """A running process, with the part of subprocess.Popen that tests use."""

    def __init__(self, arguments: tuple[str, ...], connection: socket.socket, streams: list[BinaryIO]) -> None:
        self.args, self._connection, self._streams = arguments, connection, streams
        self.pid = self._number()
        self.returncode: int | None = None

    def _number(self) -> int:
        return int(struct.unpack("i", self._connection.recv(4))[0])

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float = LIMIT) -> int:
        """Wait for the exit code, -N after signal N. Raises TimeoutError after killing the process."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                self.kill()
                raise TimeoutError(f"{self.args} still ran after {timeout} seconds:\n{self.stdout}{self.stderr}")
            self.returncode = self._number()
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int, group: bool = False) -> None:
        """group: also to the processes that it has started."""
        if self.poll() is None:
            (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """The text written so far."""
        return self._text(0)

    @property
    def stderr(self) -> str:
        return self._text(1)

    def _text(self, index: int) -> str:
        if index >= len(self._streams):
            return ""
        file = self._streams[index].fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()


def start(
    *arguments: Any, cwd: Path | None = None, merged: bool = False, terminal: int | None = None, **environment: str
) -> Process:
    """Start `python ARGUMENTS`: `-m MODULE …` or `SCRIPT …`, with additional environment variables.

    merged: stderr goes to stdout. terminal: a file descriptor for all three streams.
    """
    words = tuple(map(str, arguments))
    streams: list[BinaryIO] = []
    if terminal is None:
        streams = [tempfile.TemporaryFile() for _ in range(1 if merged else 2)]  # noqa: SIM115 - open until the end
        out, err = streams[0].fileno(), streams[-1].fileno()
        descriptors = [os.open(os.devnull, os.O_RDONLY), out, err]
    else:
        descriptors = [os.dup(terminal), terminal, terminal]
    request = {
        "arguments": words,
        "cwd": str(cwd or Path.cwd()),
        "environment": {**os.environ, "OMP_NUM_THREADS": "1", **environment},
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_server())
    message = json.dumps(request).encode()
    socket.send_fds(connection, [struct.pack("i", len(message))], descriptors)
    connection.sendall(message)
    os.close(descriptors[0])
    return Process(words, connection, streams)


def run(*arguments: Any, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Call `start(…)` and wait for the end."""
    process = start(*arguments, **keywords)
    process.wait()
    return subprocess.CompletedProcess(process.args, process.wait(), process.stdout, process.stderr)


def start_ranks(*arguments: Any, **keywords: Any) -> list[Process]:
    """Call `start(…)` once for each rank. A keyword whose value is a list has one value per rank."""
    count = max((len(values) for values in keywords.values() if isinstance(values, list)), default=1)
    of_ranks = (
        {name: value[rank] if isinstance(value, list) else value for name, value in keywords.items()}
        for rank in range(count)
    )
    return [start(*arguments, **own) for own in of_ranks]


def two_ranks(**variables: str) -> dict[str, str | list[str]]:
    """Environment variables that torchrun sets for two processes, and `variables` for both, for `start_ranks`."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return {"RANK": ["0", "1"], "LOCAL_RANK": ["0", "1"], **meeting, **variables}


def end_together(processes: list[Process]) -> int:
    """Return the exit code of the first process that fails, after SIGTERM to the others as by torchrun; else 0."""
    ending = time.monotonic() + LIMIT
    while any(process.poll() is None for process in processes) and not any(process.returncode for process in processes):
        assert time.monotonic() < ending, [process.stdout for process in processes]
        time.sleep(0.002)
    code = next((process.returncode for process in processes if process.returncode), 0)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(30)
    return code


def free_port() -> int:
    """Return a port of this machine that no process listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@functools.cache
def _server() -> str:
    """Start the server of this test process once and return its address. It ends with this process."""
    address = f"{tempfile.mkdtemp(prefix='warm')}/socket"
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the tests only
    )
    assert server.stdin is not None
    assert server.stdout is not None
    atexit.register(server.communicate)
    assert server.stdout.readline() == b"ready\n"
    return address


# --- the server ---


def serve(address: str) -> None:
    """Fork a process in its own session for each request, until stdin is closed."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    path = sys.path[1:]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin, ended], [], [])
        if sys.stdin in ready:
            break
        if ended in ready:
            ended.recv(4096)
            for child, connection in list(running.items()):
                _, status = found = os.waitpid(child, os.WNOHANG)
                if found[0]:
                    with contextlib.suppress(OSError):
                        connection.send(struct.pack("i", os.waitstatus_to_exitcode(status)))
                    running.pop(child).close()
        if listener in ready:
            connection, _ = listener.accept()
            head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
            request = json.loads(connection.recv(struct.unpack("i", head)[0], socket.MSG_WAITALL))
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.setsid()
                connection.send(struct.pack("i", os.getpid()))
                for other in (listener, ended, wake, connection, *running.values()):
                    other.close()
                become(descriptors, path, **request)
            running[child] = connection
            for descriptor in descriptors:
                os.close(descriptor)
    for child in running:
        os.kill(child, signal.SIGKILL)
    shutil.rmtree(Path(address).parent)
    os._exit(0)


def become(
    descriptors: list[int], path: list[str], arguments: list[str], cwd: str, environment: dict[str, str]
) -> None:
    """Continue as `python ARGUMENTS`; does not return."""
    import torch

    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    by_name = arguments[0] == "-m"
    first, *sys.argv = [cwd, *arguments[1:]] if by_name else [str(Path(arguments[0]).absolute().parent), *arguments]
    sys.path[:] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *path]
    code: Any = None
    try:
        if by_name:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    # End as the interpreter does, except for freeing all modules, which takes half a second.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1])
