"""Contenders by name."""

from __future__ import annotations

from samplecache.audio.format import Encoding
from samplecache.errors import ConfigurationError
from samplecache.lab.ear.contender import Contender
from samplecache.lab.ear.contenders.pipewire import PipeWire
from samplecache.lab.ear.contenders.pulseaudio import PulseAudio
from samplecache.lab.ear.contenders.served import Samplecache
from samplecache.lab.ear.contenders.simple import SimpleContender, Vmtouch


def contender(name: str) -> Contender:
    """Return a new contender, not started.

    Parameters
    ----------
    name : str
        ``samplecache:STRATEGY`` keeps 16-bit sounds, as files have them; ``samplecache:STRATEGY:f32`` floats, as
        PulseAudio does; ``:locked`` at the end locks the server's own memory. Else one of ``pulseaudio``,
        ``pulseaudio-unadvised``, ``pipewire``, ``mlockall``, ``vmtouch``, ``disk``.

    Raises
    ------
    ConfigurationError
        There is none of that name.
    """
    kind, *options = name.split(":")
    flags: list[str] = []
    if kind == "samplecache" and options[-1:] == ["locked"]:
        options.pop()
        flags = ["--set", "lock_server=true"]
    match kind, options:
        case "samplecache", [strategy] if strategy:
            return Samplecache(name, strategy, server_flags=flags)
        case "samplecache", [strategy, "s16" | "f32" as encoding] if strategy:
            return Samplecache(name, strategy, Encoding(encoding), flags)
        case "pulseaudio", []:
            return PulseAudio(name)
        case "pulseaudio-unadvised", []:
            return PulseAudio(name, advised=False)
        case "pipewire", []:
            return PipeWire(name)
        case "mlockall", []:
            return SimpleContender(name, "memory", lock=True)
        case "vmtouch", []:
            return Vmtouch(name)
        case "disk", []:
            return SimpleContender(name, "disk")
    raise ConfigurationError(
        f"{name!r} is no contender",
        remedy="Name samplecache:STRATEGY or samplecache:STRATEGY:f32, with :locked at the end or without, pulseaudio, "
        "pulseaudio-unadvised, pipewire, mlockall, vmtouch or disk",
    )
