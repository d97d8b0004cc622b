"""Processes that are told what to do by lines of JSON, and answer so."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Final, cast

from samplecache.errors import SamplecacheError
from samplecache.lab.ear.failure import ContenderFailedError

PATIENCE_S: Final = 120.0
"""For an answer; storing sounds under a tight limit swaps."""
END_TIMEOUT_S: Final = 5.0

Message = dict[str, Any]


class LineProcess:
    """The parent's end: a process, its lines, and its log for when it fails.

    Parameters
    ----------
    name : str
        Whose failure it is.
    popen : callable
        Starts it, given the keyword arguments of :class:`subprocess.Popen`: in a rig or outside.
    log : Path
        Where its standard error goes.
    """

    def __init__(self, name: str, popen: Callable[..., subprocess.Popen[str]], log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("w") as stderr:
            self.process = popen(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1)
        self._input = cast("IO[str]", self.process.stdin)
        self._output = cast("IO[str]", self.process.stdout)

    def tell(self, **message: object) -> None:
        """Send a line. Never blocks for long.

        Raises
        ------
        ContenderFailedError
            The process has ended.
        """
        try:
            self._input.write(json.dumps(message) + "\n")
            self._input.flush()
        except (BrokenPipeError, ValueError):
            raise self._failure() from None

    def ask(self, **message: object) -> Message:
        """Send a line and wait for the answer, at most `PATIENCE_S`.

        Raises
        ------
        ContenderFailedError
            The process has ended, refuses, or does not answer.
        """
        self.tell(**message)
        return self.answer()

    def answer(self) -> Message:
        """Wait for a line; raises as :meth:`ask` does."""
        if not select.select([self._output], [], [], PATIENCE_S)[0]:
            raise ContenderFailedError(
                f"{self._name} has not answered for {PATIENCE_S:.0f} s", remedy="Give it more memory or a faster disk"
            )
        line = self._output.readline()
        if not line:
            raise self._failure()
        answer: Message = json.loads(line)
        if "error" in answer:
            raise ContenderFailedError(f"{self._name}: {answer['error']}", remedy=answer["remedy"])
        return answer

    def close(self) -> None:
        """End the process; may be called again."""
        end(self.process)

    def _failure(self) -> ContenderFailedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_TIMEOUT_S)
        return died(self._name, self.process.returncode, self._log)


def died(name: str, status: int | None, log: Path) -> ContenderFailedError:
    """Return what to raise for a contender that ended with `status`, having written `log`."""
    if status == -9:
        return ContenderFailedError(
            f"{name} was killed, as the kernel does where memory is wanted and none can be swapped out",
            remedy="Give it more memory, or lock less",
        )
    last = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return ContenderFailedError(f"{name} ended with status {status}: {last}", remedy=f"See {log}")


def end(process: subprocess.Popen[Any]) -> None:
    """End a process of ours, and kill it if it does not mind; close its pipes. May be called again."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def serve(handlers: dict[str, Callable[..., Message | None]], lines: Iterable[str] | None = None) -> None:
    """Be the child's end: call a handler for each line until there are no more, and answer what it returns or raises.

    Those that return nothing are not answered; so they may not raise either.
    """
    for line in sys.stdin if lines is None else lines:
        message = json.loads(line)
        try:
            answer = handlers[message.pop("do")](**message)
        except SamplecacheError as error:
            answer = {"error": error.message, "remedy": error.remedy}
        except (OSError, MemoryError) as error:
            answer = {"error": str(error), "remedy": "See its log"}
        if answer is not None:
            print(json.dumps(answer), flush=True)
