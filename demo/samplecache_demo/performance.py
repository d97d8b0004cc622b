"""Playing the schedule once, under one strategy, through the gRPC stream; and what was heard."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, PlayStream
from samplecache.clock import NS_PER_MS, NS_PER_S, MonotonicClock
from samplecache.v1 import playback_pb2
from samplecache.witness import Witness
from samplecache_demo.schedule import HINT_AHEAD_NS, LEAD_NS, Cue
from samplecache_player import Player, Voice, VoiceReport, open_output

NOISY_NS = LEAD_NS // 2
"""A machine that wakes a sleeping thread so late makes glitches of its own: a block passes several threads in turn."""


@dataclass(frozen=True, slots=True)
class Played:
    """One cue as it was heard and as the server saw it."""

    cue: Cue
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


@dataclass(slots=True)
class _Voice:
    """One cue being played: a stream that feeds a voice."""

    cue: Cue
    voice: Voice | None = None
    stats: playback_pb2.PlaybackStats | None = None
    bound: str = ""
    failure: BaseException | None = field(default=None)


def perform(client: Client, schedule: Sequence[Cue], strategy: str, rate_hz: int, output_spec: str) -> Performance:
    """Play `schedule` under `strategy` and return what came of it. Blocks for as long as it sounds.

    Each sample is announced `HINT_AHEAD_NS` before it is struck, whatever the strategy makes of that.
    """
    clock = MonotonicClock()
    output, _ = open_output(output_spec, AudioFormat(rate_hz, 2, Encoding.S16))
    swapped_in = client.stats().swap_in_pages
    with Witness() as witness, Player(output) as player:
        began_ns = clock.now_ns()
        start_ns = began_ns + HINT_AHEAD_NS + 100 * NS_PER_MS
        voices = [_Voice(cue) for cue in schedule]
        threads = [
            threading.Thread(target=_announce, args=(client, cue, strategy, start_ns, clock), daemon=True)
            for cue in schedule
        ] + [
            threading.Thread(target=_strike, args=(client, player, voice, strategy, start_ns, clock), daemon=True)
            for voice in voices
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        player.drain(10 * NS_PER_S)
        machine_ns = witness.lateness_between(began_ns, clock.now_ns())
        report = player.report()
    failures = [voice.failure for voice in voices if voice.failure is not None]
    if failures:
        raise failures[0]
    after = client.stats()
    return Performance(
        strategy,
        next((voice.bound for voice in voices), strategy),
        start_ns,
        rate_hz,
        tuple(
            Played(voice.cue, voice.voice.report(), voice.stats)
            for voice in voices
            if voice.voice is not None and voice.stats is not None
        ),
        after.swap_in_pages - swapped_in,
        machine_ns,
        report.lateness_max_ns,
    )


def _announce(client: Client, cue: Cue, strategy: str, start_ns: int, clock: MonotonicClock) -> None:
    clock.sleep_until(start_ns + cue.at_ns - HINT_AHEAD_NS)
    client.prefetch(cue.sample_id, frames=cue.frames, strategy=strategy, deadline_ns=HINT_AHEAD_NS).result()


def _strike(
    client: Client, player: Player, playing: _Voice, strategy: str, start_ns: int, clock: MonotonicClock
) -> None:
    cue = playing.cue
    at_ns = start_ns + cue.at_ns
    clock.sleep_until(at_ns)
    try:
        # The voice sounds exactly when its lead is over, as the server is told.
        playing.voice = player.start_voice(at_ns=at_ns, lead_ns=LEAD_NS, prefill_ns=NS_PER_S, gain=cue.gain)
        with client.play(
            cue.sample_id,
            frames=cue.frames,
            strategy=strategy,
            channels=2,
            encoding=Encoding.S16,
            block_ns=10 * NS_PER_MS,
            lead_ns=LEAD_NS,
        ) as stream:
            _feed(stream, playing)
        playing.voice.end()
        playing.voice.wait(5 * NS_PER_S)
    except Exception as error:  # told to the thread that waits for this one
        playing.failure = error
        if playing.voice is not None:
            playing.voice.stop()


def _feed(stream: PlayStream, playing: _Voice) -> None:
    assert playing.voice is not None  # noqa: S101 -- made by the only caller
    for event in stream:
        match event:
            case playback_pb2.PlayStarted():
                playing.bound = event.binding.strategy
            case playback_pb2.PlayBlock():
                frames = np.frombuffer(event.pcm, "<i2").reshape(-1, 2)
                playing.voice.feed(event.frame_offset, frames)
            case playback_pb2.PlaySummary():
                playing.stats = event.stats
