"""Playing the schedule once, under one strategy, through the gRPC stream; and what was heard."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, PlayStream
from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.v1 import playback_pb2
from samplecache.witness import Witness
from samplecache_demo.schedule import BLOCK_NS, HINT_AHEAD_NS, LEAD_NS, Cue
from samplecache_player import Player, Voice, VoiceReport, open_output

NOISY_NS = LEAD_NS // 2
"""A machine that wakes a sleeping thread so late makes glitches of its own: a block passes several threads in turn."""


SETTLE_NS = 100 * NS_PER_MS
"""From the beginning until the first sample is announced, for all threads to be there."""


@dataclass(frozen=True, slots=True)
class Played:
    """One cue as it was heard and as the server saw it, and the strategy that its session got."""

    cue: Cue
    bound: str
    voice: VoiceReport
    stats: playback_pb2.PlaybackStats


@dataclass(frozen=True, slots=True)
class Performance:
    """One run of the schedule.

    Attributes
    ----------
    strategy : str
        The strategy asked for.
    bound : str
        The strategy that sessions got.
    start_ns : int
        When the schedule began, on the player's clock.
    rate_hz : int
        The output's rate.
    played : tuple of Played
        One a cue.
    prefetches_ns : tuple of int
        How long each announcement's prefetch took, in the order of cues.
    swap_in_pages : int
        Pages that the machine read from swap from the first announcement to the end.
    machine_ns : int
        How late sleeping threads were at worst: the machine's own stalls, in the player's process and the server's.
    output_lateness_ns : int
        How late the clocked output itself was at worst.
    """

    strategy: str
    bound: str
    start_ns: int
    rate_hz: int
    played: tuple[Played, ...]
    prefetches_ns: tuple[int, ...]
    swap_in_pages: int
    machine_ns: int
    output_lateness_ns: int

    @property
    def noisy(self) -> bool:
        """Whether the machine itself stalled for so long that glitches may be its own."""
        return max(self.machine_ns, self.output_lateness_ns) > NOISY_NS

    @property
    def glitches(self) -> int:
        """Gaps that the player's voices suffered."""
        return sum(played.voice.glitches for played in self.played)

    @property
    def longest_gap_ns(self) -> int:
        """The longest of them."""
        return max(played.voice.glitch_longest_ns for played in self.played)

    @property
    def late_blocks(self) -> int:
        """Blocks that the server had not ready when due."""
        return sum(played.stats.late_blocks for played in self.played)

    @property
    def scheduling_blocks(self) -> int:
        """Of those, how many the witness puts down to the machine."""
        return sum(played.stats.late_by_cause[playback_pb2.UNDERRUN_CAUSE_SCHEDULING] for played in self.played)

    @property
    def longest_stall_ns(self) -> int:
        """The longest that a block was late."""
        return max(played.stats.longest_stall.ToNanoseconds() for played in self.played)

    @property
    def first_blocks_ns(self) -> list[int]:
        """For each cue, from the start command to its first block, ascending."""
        return sorted(played.stats.first_block.ToNanoseconds() for played in self.played)

    @property
    def major_faults(self) -> int:
        """Major faults of the threads that read blocks."""
        return sum(played.stats.faults.major for played in self.played)

    @property
    def minor_faults(self) -> int:
        """Minor faults of the threads that read blocks."""
        return sum(played.stats.faults.minor for played in self.played)


def perform(client: Client, schedule: Sequence[Cue], strategy: str, rate_hz: int, output_spec: str) -> Performance:
    """Play `schedule` under `strategy` and return what came of it. Blocks for as long as it sounds.

    Each sample is announced `HINT_AHEAD_NS` before it is struck, whatever the strategy makes of that.
    """
    clock = MonotonicClock()
    output, _ = open_output(output_spec, AudioFormat(rate_hz, 2, Encoding.S16))
    swapped_in = client.stats().swap_in_pages
    with (
        Witness() as witness,
        Player(output) as player,
        ThreadPoolExecutor(2 * len(schedule), "demo") as pool,  # every cue may be announced and struck at once
    ):
        began_ns = clock.now_ns()
        start_ns = began_ns + HINT_AHEAD_NS + SETTLE_NS
        hints = [pool.submit(_announce, client, cue, strategy, start_ns, clock) for cue in schedule]
        strikes = [pool.submit(_strike, client, player, cue, strategy, start_ns, clock) for cue in schedule]
        prefetches_ns = tuple(hint.result() for hint in hints)
        heard = [strike.result() for strike in strikes]
        player.drain(10 * NS_PER_S)
        machine_ns = witness.lateness_between(began_ns, clock.now_ns())
        report = player.report()
    return Performance(
        strategy,
        heard[0].bound,
        start_ns,
        rate_hz,
        tuple(heard),
        prefetches_ns,
        client.stats().swap_in_pages - swapped_in,
        machine_ns,
        report.lateness_max_ns,
    )


def _announce(client: Client, cue: Cue, strategy: str, start_ns: int, clock: MonotonicClock) -> int:
    """Announce one cue; return how long the server took to bring its pages in."""
    clock.sleep_until(start_ns + cue.at_ns - HINT_AHEAD_NS)
    call = client.prefetch(cue.sample_id, frames=cue.frames, strategy=strategy, deadline_ns=HINT_AHEAD_NS)
    return call.result().elapsed.ToNanoseconds()


def _strike(client: Client, player: Player, cue: Cue, strategy: str, start_ns: int, clock: MonotonicClock) -> Played:
    """Play one cue at its time, and return how it went when it has sounded."""
    at_ns = start_ns + cue.at_ns
    clock.sleep_until(at_ns)
    # The voice sounds exactly when its lead is over, as the server is told.
    voice = player.start_voice(at_ns=at_ns, lead_ns=LEAD_NS, prefill_ns=NS_PER_S, gain=cue.gain)
    try:
        with client.play(
            cue.sample_id,
            frames=cue.frames,
            strategy=strategy,
            channels=2,
            encoding=Encoding.S16,
            block_ns=BLOCK_NS,
            lead_ns=LEAD_NS,
        ) as stream:
            bound, stats = _feed(stream, voice)
        voice.end()
        voice.wait(5 * NS_PER_S)
    except BaseException:
        voice.stop()
        raise
    return Played(cue, bound, voice.report(), stats)


def _feed(stream: PlayStream, voice: Voice) -> tuple[str, playback_pb2.PlaybackStats]:
    """Pass blocks on to the voice; return the strategy bound and the session's stats."""
    bound, stats = "", playback_pb2.PlaybackStats()
    for event in stream:
        match event:
            case playback_pb2.PlayStarted():
                bound = event.binding.strategy
            case playback_pb2.PlayBlock():
                voice.feed(event.frame_offset, np.frombuffer(event.pcm, "<i2").reshape(-1, 2))
            case playback_pb2.PlaySummary():
                stats = event.stats
    return bound, stats
