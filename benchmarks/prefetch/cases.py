"""The cases: what is played, in how much memory, from what device. One case runs on both kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.rig import Limits
from samplecache.lab.workload import Cue, VirtualSample, Workload
from samplecache.simulation.device import DeviceProfile, device_profile

MIB: Final = 1 << 20
STEREO: Final = AudioFormat(48_000, 2, Encoding.S16)
FINE: Final = AudioFormat(96_000, 8, Encoding.S16)
"""Eight channels at 96 kHz, 1.5 MB/s: what fills memory in seconds instead of minutes."""
BLOCK_NS: Final = 20 * NS_PER_MS
LEAD_NS: Final = 100 * NS_PER_MS
TRIGGERS: Final = 16
"""A quarter of a minute's worth."""
ONE_SHOTS: Final = 500


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to play a case: a strategy, and whether samples are tagged, announced, or resident all along.

    Attributes
    ----------
    strategy : str
        The strategy that is asked for.
    label : str
        What tables call it.
    tagged : bool
        Whether samples carry the case's tags.
    cold : bool
        Whether samples are cold when the run begins.
    """

    strategy: str
    label: str = ""
    tagged: bool = True
    cold: bool = True

    @property
    def name(self) -> str:
        """The label, or the strategy's name."""
        return self.label or self.strategy


@dataclass(frozen=True, slots=True)
class Case:
    """What is played, on what.

    Attributes
    ----------
    name : str
        What it is chosen by.
    about : str
        What it shows, in a sentence.
    workload : Callable
        Returns samples and cues for a strategy, whose samples are tagged if its second argument says so.
    memory_bytes : int or None
        Limit on memory; None for more than all samples take.
    read_iops, read_bytes_per_s : int or None
        Limit on the device's reads.
    contenders : tuple of Contender
        Who plays it, in this order within a repetition.
    settings : tuple of (str, int)
        Settings of the server, by their names in its configuration.
    simulated_device : str
        Device of the simulated machine, which gets the same limits on reads.
    """

    name: str
    about: str
    workload: Callable[[str, bool], Workload]
    memory_bytes: int | None = None
    read_iops: int | None = None
    read_bytes_per_s: int | None = None
    contenders: tuple[Contender, ...] = (
        Contender("none"),
        Contender("willneed"),
        Contender("window"),
        Contender("auto"),
    )
    settings: tuple[tuple[str, int], ...] = ()
    simulated_device: str = "nvme-p3700"

    @property
    def limits(self) -> Limits:
        """What the rig enforces while it plays."""
        return Limits(self.memory_bytes, self.read_iops, self.read_bytes_per_s)

    @property
    def device(self) -> DeviceProfile:
        """The simulated device, under the same limits."""
        profile = device_profile(self.simulated_device)
        if self.read_iops is None and self.read_bytes_per_s is None:
            return profile
        return profile.throttled(iops=self.read_iops, bytes_per_s=self.read_bytes_per_s)

    @property
    def device_line(self) -> str:
        """The limits, for people."""
        if self.read_iops is not None:
            return f"at most {self.read_iops} reads a second"
        if self.read_bytes_per_s is not None:
            return f"at most {self.read_bytes_per_s / 1e6:g} MB/s"
        return "no limit on reads"


def _frames(audio: AudioFormat, duration_ns: int) -> int:
    return audio.rate_hz * duration_ns // NS_PER_S


def _streams(
    number: int,
    audio: AudioFormat,
    duration_ns: int,
    *,
    hint_ahead_ns: int | None = None,
    block_ns: int = BLOCK_NS,
    apart_ns: int = 0,
) -> Callable[[str, bool], Workload]:
    """Return a maker of `number` streams of different samples, each of which is played once from its start."""

    def make(strategy: str, tagged: bool) -> Workload:
        samples = tuple(VirtualSample(f"stream-{n:03}", audio, _frames(audio, duration_ns)) for n in range(number))
        first_ns = hint_ahead_ns or 0
        cues = tuple(
            Cue(sample.sample_id, first_ns + n * apart_ns, strategy, hint_ahead_ns, LEAD_NS, block_ns)
            for n, sample in enumerate(samples)
        )
        return Workload(samples, cues)

    return make


def _one_shots(strategy: str, tagged: bool) -> Workload:
    """Strike 16 of 500 one-shots in a quarter of a minute, none twice and none announced."""
    samples = tuple(
        VirtualSample(
            f"shot-{n:03}", STEREO, _frames(STEREO, (300 + 4 * (n % 100)) * NS_PER_MS), tags=("trigger",) * tagged
        )
        for n in range(ONE_SHOTS)
    )
    # 197 and 500 have no common divisor, so that the order jumps about and no sample comes twice.
    struck = [samples[197 * n % ONE_SHOTS] for n in range(TRIGGERS)]
    apart_ns = 60 * NS_PER_S // 64
    cues = tuple(
        Cue(sample.sample_id, NS_PER_S + n * apart_ns, strategy, None, LEAD_NS, BLOCK_NS)
        for n, sample in enumerate(struck)
    )
    return Workload(samples, cues)


CASES: Final = {
    case.name: case
    for case in (
        Case(
            "large",
            "a sample of twice the memory limit, a device with enough bandwidth",
            _streams(1, FINE, 16 * NS_PER_S),
            memory_bytes=12 * MIB,
        ),
        Case(
            "ample",
            "ample memory, a cold sample of 10 s, announced 2 s ahead",
            _streams(1, STEREO, 10 * NS_PER_S, hint_ahead_ns=2 * NS_PER_S),
        ),
        Case(
            "ample-unannounced",
            "ample memory, a cold sample of 10 s, not announced",
            _streams(1, STEREO, 10 * NS_PER_S),
        ),
        Case(
            "slow-1",
            "slow swap, one session announced 2 s ahead",
            _streams(1, STEREO, 6 * NS_PER_S, hint_ahead_ns=2 * NS_PER_S),
            read_bytes_per_s=2_000_000,
        ),
        Case(
            "slow-8",
            "slow swap, eight sessions announced 2 s ahead",
            _streams(8, STEREO, 6 * NS_PER_S, hint_ahead_ns=2 * NS_PER_S, apart_ns=5 * NS_PER_MS),
            read_bytes_per_s=2_000_000,
        ),
        Case(
            "triggers",
            "64 triggers a minute out of 500 cold one-shots of 1.9 times the memory, none announced",
            _one_shots,
            memory_bytes=24 * MIB,
            contenders=(
                Contender("none", "resident", tagged=False, cold=False),
                Contender("none", tagged=False),
                Contender("willneed", tagged=False),
                Contender("window", "window + trigger"),
            ),
            settings=(("lock_budget", 8 * MIB),),
            simulated_device="hdd-laptop-2008",
        ),
        Case(
            "overload",
            "twelve streams of 192 kB/s from a device of 1.6 MB/s",
            _streams(12, STEREO, 10 * NS_PER_S, hint_ahead_ns=2 * NS_PER_S, apart_ns=100 * NS_PER_MS),
            read_iops=400,
        ),
        Case(
            "crowd",
            "100 sessions in a prefetch budget of 64 MiB",
            _streams(100, STEREO, 8 * NS_PER_S, block_ns=100 * NS_PER_MS, apart_ns=20 * NS_PER_MS),
            contenders=(
                Contender("window"),
                # What planning costs by itself: with nothing to bring in, that is the difference of these two.
                Contender("none", "none + resident", cold=False),
                Contender("window", "window + resident", cold=False),
            ),
            settings=(("prefetch_budget", 64 * MIB),),
        ),
    )
}
