"""What the rig's limits do to the processes in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from samplecache.lab.rig import Limits, Rig


def test_a_limit_on_memory_pushes_a_process_into_swap(rig: Rig) -> None:
    program = """
import random, sys
memory = random.Random(1).randbytes(48 << 20)
print("ready", flush=True)
sys.stdin.read()
"""
    process = rig.popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        rig.limit(Limits(memory_bytes=32 << 20))
        assert rig.memory_bytes <= 32 << 20
        assert swapped_bytes(process.pid) > 8 << 20
        rig.reclaim()
        assert swapped_bytes(process.pid) > 40 << 20


def swapped_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmSwap:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmSwap")
