"""A background load: a process that writes to all of its memory, round and round, at a rate and for a time."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from typing import Final

from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.lab.ear.lines import Message, serve

STEP_NS: Final = 10 * NS_PER_MS
"""How often it wakes."""


class Churn:
    """The process.

    Parameters
    ----------
    rate_bytes_per_s : int
        How fast it writes; slower where memory does not come in time.
    """

    def __init__(self, rate_bytes_per_s: int) -> None:
        self._step_bytes = max(mmap.PAGESIZE, rate_bytes_per_s * STEP_NS // NS_PER_S)
        self._step_ns = self._step_bytes * NS_PER_S // rate_bytes_per_s
        self._clock = MonotonicClock()
        self._stop_ns = sys.maxsize
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, length_bytes: int, start_ns: int) -> Message:
        """Write to so much memory from `start_ns` of the monotonic clock on; what went on before ends."""
        self.stop()
        self._stopping.clear()
        self._stop_ns = sys.maxsize
        self._thread = threading.Thread(target=self._run, args=(length_bytes, start_ns), daemon=True)
        self._thread.start()
        return {}

    def until(self, stop_ns: int) -> Message:
        """Write no longer than to `stop_ns`."""
        self._stop_ns = stop_ns
        return {}

    def stop(self) -> Message:
        """Stop writing, and let go of the memory."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return {}

    def _run(self, length_bytes: int, start_ns: int) -> None:
        if self._stopping.wait(max(0, start_ns - self._clock.now_ns()) / NS_PER_S):
            return
        noise = os.urandom(mmap.PAGESIZE)
        with mmap.mmap(-1, length_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            written, due_ns = 0, self._clock.now_ns()
            while due_ns < self._stop_ns:
                for offset in range(written, written + self._step_bytes, mmap.PAGESIZE):
                    start = offset % length_bytes // mmap.PAGESIZE * mmap.PAGESIZE
                    memory[start : start + mmap.PAGESIZE] = noise[: length_bytes - start]
                written += self._step_bytes
                due_ns = max(due_ns + self._step_ns, self._clock.now_ns())
                if self._stopping.wait((due_ns - self._clock.now_ns()) / NS_PER_S):
                    return


def main() -> int:
    """Serve until standard input ends."""
    churn = Churn(int(sys.argv[1]))
    serve({"begin": churn.begin, "until": churn.until, "stop": churn.stop})
    return 0


if __name__ == "__main__":
    sys.exit(main())
