"""Plays the numbered signal into a device and prints what happened as JSON: a process of its own for the tests.

PortAudio reads ``PULSE_SERVER`` and ``PULSE_SINK`` once, when it is loaded; hence a process for each server.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time

import numpy as np

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.clock import NS_PER_MS
from samplecache.errors import SamplecacheError
from samplecache.lab.ear.numbered import numbered_frames
from samplecache_player import DeviceOutput, Period, Player, Voice, VoiceStoppedError

BLOCK_FRAMES = 4800
BLOCKS_BEFORE = 2
TIMEOUT_NS = 60_000 * NS_PER_MS


def play_source(output: DeviceOutput, frames: int, stall_at_frame: int, stall_ns: int) -> dict[str, object]:
    """Play straight into the output; its source stalls once, so that the ring starves."""
    position = 0

    def source(out: Period) -> int:
        nonlocal position
        if position <= stall_at_frame < position + len(out):
            time.sleep(stall_ns / 1e9)
        block = numbered_frames(position, min(frames, position + len(out)))
        np.copyto(out[: len(block)], block)
        position += len(block)
        return len(block)

    output.start(source)
    output.wait(TIMEOUT_NS)
    return {}


def play_voice(output: DeviceOutput, frames: int, stall_at_frame: int, stall_ns: int) -> dict[str, object]:
    """Play one voice through the mixer; its feeder stalls once, so that the voice starves.

    It has its first blocks before the output starts: a period mixed before that would be played too, as silence.
    """
    player = Player(output)
    voice = player.start_voice(length_frames=frames, lead_ns=TIMEOUT_NS)
    stall_after = stall_at_frame - stall_at_frame % BLOCK_FRAMES
    starts = range(0, frames, BLOCK_FRAMES)
    for start in starts[:BLOCKS_BEFORE]:
        feed(voice, start, frames)
    with player:
        with contextlib.suppress(VoiceStoppedError):  # drain tells why
            for start in starts[BLOCKS_BEFORE:]:
                if stall_ns and start == stall_after:
                    while voice.position_frames < start:
                        time.sleep(0.001)
                    time.sleep(stall_ns / 1e9)
                feed(voice, start, frames)
        player.drain(TIMEOUT_NS)
        return {"voice": dataclasses.asdict(voice.report())}


def feed(voice: Voice, start: int, frames: int) -> None:
    """Feed the block that begins at `start`."""
    block = numbered_frames(start, min(frames, start + BLOCK_FRAMES))
    is_float = voice.format.encoding is Encoding.F32
    voice.feed(start, (block / 32768).astype(np.float32) if is_float else block)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["source", "voice"])
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--stall-at-frame", type=int, default=-1)
    parser.add_argument("--stall-ms", type=int, default=0)
    parser.add_argument("--encoding", choices=["s16", "f32"], default="s16")
    parser.add_argument("--latency-ms", type=int, default=250)
    options = parser.parse_args()
    play = {"source": play_source, "voice": play_voice}[options.way]
    try:
        output = DeviceOutput(
            AudioFormat(48_000, 2, Encoding(options.encoding)), "pulse", latency_ns=options.latency_ms * NS_PER_MS
        )
        print("playing", flush=True)
        told = play(output, options.frames, options.stall_at_frame, options.stall_ms * NS_PER_MS)
    except SamplecacheError as error:
        print(json.dumps({"error": str(error), "reason": error.reason_code}), flush=True)
        return 1
    told["output"] = dataclasses.asdict(output.report())
    told["granted_latency_ms"] = output.granted_latency_ns // NS_PER_MS
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
