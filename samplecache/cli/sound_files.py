"""Which files to upload, and under which ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from samplecache.errors import InvalidError, NotFoundError, SamplecacheError

EXTENSIONS: Final = frozenset({".aif", ".aifc", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wave"})
"""What is taken from a folder; a file that is named is always taken."""


@dataclass(frozen=True, slots=True)
class SoundFile:
    """A file, and its name from which an id is made: relative to the folder that was given."""

    path: Path
    name: Path


def find(paths: Iterable[Path]) -> Iterator[SoundFile | SamplecacheError]:
    """Yield the files among `paths` and those in the folders among them, recursively, by name; and what is wrong."""
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
            yield from (SoundFile(file, file.relative_to(path)) for file in inside)
            if not inside:
                yield InvalidError(
                    f"there is no audio file in {path}",
                    remedy=f"Name files themselves, or a folder with any of {' '.join(sorted(EXTENSIONS))}",
                    reason="NO_AUDIO_FILES",
                    file=path,
                )
        elif path.exists():
            yield SoundFile(path, Path(path.name))
        else:
            yield NotFoundError(f"there is no file {path}", remedy="Check the name", reason="NO_SUCH_FILE", file=path)
