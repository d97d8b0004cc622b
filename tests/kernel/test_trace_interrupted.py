"""However a run of traces ends, swap, control groups and sysctls are as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from samplecache.kernel import procfs
from samplecache.lab.rig import PAGE_CLUSTER, Rig
from samplecache.lab.rig_undo import SUFFIX

DEADLINE_S = 30
SAMPLE_BYTES = 2000 * 4096
"""Nearly all of the trace's memory, which is more than its prelude's."""
PAGE_CLUSTER_WANTED = "5"

LONG = """
title = "long"
[[region]]
name = "sample"
pages = 2048
[[step]]
do = "evict"
[[step]]
do = "sleep"
ms = 60000
"""


def standing(rig: Rig) -> tuple[object, ...]:
    """What a run changes: swap areas, control groups, readahead, journals."""
    groups = [path.name for group in rig.groups for path in group.parent.glob("samplecache-*")]
    journals = sorted(path.name for path in rig.options.directory.glob(f"*{SUFFIX}"))
    disk = procfs.disk_under(rig.options.directory)
    return (
        sorted(str(area.path) for area in procfs.swap_areas()),
        sorted(groups),
        PAGE_CLUSTER.read_text().strip(),
        disk and disk.rotational,
        journals,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_all_is_put_back(session_rig: Rig, no_rig: None, tmp_path: Path, number: signal.Signals) -> None:
    before = standing(session_rig)
    used = {area.path for area in procfs.swap_areas()}
    path = tmp_path / "long.toml"
    path.write_text(LONG)
    argv = [sys.executable, "-m", "samplecache", "lab", "trace", str(path)]
    process = subprocess.Popen(
        [*argv, "--mode", "cluster", "--page-cluster", PAGE_CLUSTER_WANTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It is in the middle of the trace once that much is in its swap: more than what comes before.
        wait_until(
            lambda: (
                process.poll() is not None
                or any(area.used_bytes > SAMPLE_BYTES for area in procfs.swap_areas() if area.path not in used)
            )
        )
        assert PAGE_CLUSTER.read_text().strip() == PAGE_CLUSTER_WANTED
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    wait_until(lambda: standing(session_rig) == before)
