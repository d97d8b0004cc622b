"""Plays what the cache serves: voices, a mixer, and outputs into a device, a WAV file or nothing.

>>> import numpy as np
>>> from samplecache.audio.format import AudioFormat, Encoding
>>> output, note = open_output("null", AudioFormat(48_000, 2, Encoding.S16))
>>> with Player(output) as player:
...     voice = player.start_voice(length_frames=480)
...     voice.feed(0, np.zeros((480, 2), np.int16))
...     player.drain()
True
"""

from .clocked import NullOutput, WavOutput
from .device import DeviceOutput
from .keys import SEEK_STEP_NS, Command, Keys
from .output import Output, OutputLostError, OutputUnavailableError, Period, PeriodSource
from .outputs import open_output
from .player import Player
from .report import Gap, OutputReport, VoiceReport
from .ring import FrameRing, Wake
from .voice import Voice, VoiceStoppedError

__all__ = [
    "SEEK_STEP_NS",
    "Command",
    "DeviceOutput",
    "FrameRing",
    "Gap",
    "Keys",
    "NullOutput",
    "Output",
    "OutputLostError",
    "OutputReport",
    "OutputUnavailableError",
    "Period",
    "PeriodSource",
    "Player",
    "Voice",
    "VoiceReport",
    "VoiceStoppedError",
    "Wake",
    "WavOutput",
    "open_output",
]
