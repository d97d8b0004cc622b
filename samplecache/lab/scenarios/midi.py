"""When notes are struck in a MIDI file."""

from __future__ import annotations

from pathlib import Path

from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError
from samplecache.lab.scenarios.tables import ScenarioProblem


def strikes(path: Path, where: tuple[str | int, ...]) -> list[tuple[int, int]]:
    """Return the notes of a MIDI file by time: nanoseconds from its beginning, and the note's number. Reads the file.

    Parameters
    ----------
    path : Path
        A standard MIDI file of type 0 or 1.
    where : tuple
        What errors point at.

    Raises
    ------
    ScenarioProblem
        It cannot be read, or has no notes.
    ConfigurationError
        mido is not installed.
    """
    try:
        import mido
    except ImportError as error:
        raise ConfigurationError(
            "MIDI files need mido, which is not installed", remedy="Install samplecache[lab]"
        ) from error
    try:
        with path.open("rb") as file:
            messages = list(mido.MidiFile(file=file))
    except (OSError, EOFError, ValueError, TypeError, IndexError, KeyError, LookupError) as error:
        # mido lets through whatever its parser meets in a damaged file
        what = error.strerror if isinstance(error, OSError) and error.strerror else "it is no MIDI file of type 0 or 1"
        raise ScenarioProblem(where, f"{path} cannot be read: {what}", "Name a standard MIDI file") from None
    found, now_s = [], 0.0
    for message in messages:
        now_s += message.time
        if message.type == "note_on" and message.velocity > 0:
            found.append((round(now_s * NS_PER_S), message.note))
    if not found:
        raise ScenarioProblem(where, f"{path} has no notes", "Name a MIDI file with notes")
    return found
