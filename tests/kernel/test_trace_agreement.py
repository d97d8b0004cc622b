"""The running kernel does what the simulated one says, trace by trace, in every kind of swap.

The machine's counters count what other processes do as well, so one run of a few has to agree in every figure.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from samplecache.errors import NotPermittedError
from samplecache.kernel import procfs
from samplecache.lab.rig import PAGE_CLUSTER
from samplecache.lab.tracing.bench import Bench, Outcome, bench
from samplecache.lab.tracing.program import Mode
from samplecache.lab.tracing.reading import library, load
from samplecache.lab.tracing.setting import Setting, State, swap_bytes_for

RUNS = 5

SETTINGS = [
    Setting(Mode.VMA),
    Setting(Mode.VMA, page_cluster=5),
    Setting(Mode.CLUSTER),
    Setting(Mode.CLUSTER, state=State.BOOT),
    Setting(Mode.CLUSTER, page_cluster=1),
    Setting(Mode.ZRAM),
]


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def machine(request: pytest.FixtureRequest, no_rig: None) -> Iterator[Bench]:
    """A rig of each kind in turn."""
    setting: Setting = request.param
    if setting.mode is Mode.ZRAM and not procfs.ZRAM_CONTROL.exists():
        pytest.skip("needs a kernel with zram")
    before = PAGE_CLUSTER.read_text()
    with bench(setting, swap_bytes_for(*map(load, library()))) as made:
        yield made
    assert PAGE_CLUSTER.read_text() == before


@pytest.mark.parametrize("name", library())
def test_both_kernels_agree(machine: Bench, name: str) -> None:
    program = load(name)
    runs = [machine.run(program)]
    while len(runs) < RUNS and not runs[-1].agrees:  # an undisturbed one says it all
        runs.append(machine.run(program))
    assert runs[-1].agrees, "\n".join(Outcome(name, program, machine.setting, tuple(runs)).differences())


def test_without_root_nothing_is_measured(no_rig: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NotPermittedError, match="needs root"), bench(Setting(Mode.VMA), 64 << 20):
        pass
