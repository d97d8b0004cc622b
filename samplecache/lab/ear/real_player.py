"""A player into a sound server, as a process: one sample from a server through gRPC, the mixer and PortAudio.

PortAudio reads ``PULSE_SERVER`` and ``PULSE_SINK`` once, when it is loaded; hence a process for each server. It prints
what its own counters say, as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import numpy as np

from samplecache.audio.format import Encoding
from samplecache.client import Client
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.lab.ear.heard import CARD_FORMAT
from samplecache.v1 import playback_pb2
from samplecache_player import DeviceOutput, Player

BLOCK_NS = 10 * NS_PER_MS
LEAD_NS = 30 * NS_PER_MS
LATENCY_NS = 250 * NS_PER_MS
"""Of the device: with less, this way from PortAudio to the sink glitches by itself."""
TIMEOUT_NS = 120 * NS_PER_S


def main() -> int:
    """Play, and print the reports of the voice and of the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("sample_id")
    options = parser.parse_args()
    output = DeviceOutput(CARD_FORMAT, "pulse", latency_ns=LATENCY_NS)
    with Client(options.target) as client, Player(output) as player:
        frames = client.get(options.sample_id).frames
        voice = player.start_voice(length_frames=frames, lead_ns=LEAD_NS, prefill_ns=NS_PER_S)
        late_blocks = 0
        with client.play(
            options.sample_id,
            rate_hz=CARD_FORMAT.rate_hz,
            channels=CARD_FORMAT.channels,
            encoding=Encoding.S16,
            block_ns=BLOCK_NS,
            lead_ns=LEAD_NS,
        ) as stream:
            for event in stream:
                match event:
                    case playback_pb2.PlayStarted():
                        print("playing", flush=True)
                    case playback_pb2.PlayBlock():
                        voice.feed(event.frame_offset, np.frombuffer(event.pcm, "<i2").reshape(-1, 2))
                    case playback_pb2.PlaySummary():
                        late_blocks = event.stats.late_blocks
        player.drain(TIMEOUT_NS)
        told = {
            "voice": dataclasses.asdict(voice.report()),
            "output": dataclasses.asdict(player.report()),
            "late_blocks": late_blocks,
        }
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
