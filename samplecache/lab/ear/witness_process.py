"""The witness in a process of its own: it shares no interpreter with listeners, and is as late as the machine."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from samplecache.clock import NS_PER_S
from samplecache.lab.ear.lines import LineProcess, Message, serve
from samplecache.witness import Witness

HISTORY_NS: Final = 900 * NS_PER_S
"""The longest performance."""


class DistantWitness:
    """The process, from the beginning to the end of a ``with`` block. Used by one thread.

    Parameters
    ----------
    log : Path
        Where its standard error goes.
    """

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", "samplecache.lab.ear.witness_process"]
        self._process = LineProcess("the witness", partial(subprocess.Popen, argv, process_group=0), self._log)
        try:
            self._process.ask(do="ready")
        except BaseException:
            self._process.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close()

    def lateness_between(self, start_ns: int, stop_ns: int) -> int:
        """Return by how much a wake in ``[start_ns, stop_ns)`` came too late at worst; see :class:`Witness`."""
        late_ns: int = self._process.ask(do="late", start_ns=start_ns, stop_ns=stop_ns)["late_ns"]
        return late_ns


def main() -> int:
    """Serve until standard input ends."""
    with Witness(history_ns=HISTORY_NS) as witness:

        def late(start_ns: int, stop_ns: int) -> Message:
            return {"late_ns": witness.lateness_between(start_ns, stop_ns)}

        serve({"ready": dict, "late": late})
    return 0


if __name__ == "__main__":
    sys.exit(main())
