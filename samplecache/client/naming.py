"""Sample ids from file names."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath
from typing import Final

from samplecache.errors import InvalidSampleIdError

MAX_ID_CHARACTERS: Final = 63
_OTHERS = re.compile(r"[^a-z0-9._-]+")


def sample_id_of(path: PurePath) -> str:
    """Return a valid sample id that resembles `path`: lower case, without its suffix, folders joined by dots.

    Accents are dropped and whatever else an id cannot hold becomes a hyphen: ``Kits/Große Trömmel 1.wav`` becomes
    ``kits.grosse-trommel-1``.

    Parameters
    ----------
    path : PurePath
        A file name, or a path relative to the folder whose files are named.

    Raises
    ------
    InvalidSampleIdError
        Nothing of it can be used.
    """
    plain = unicodedata.normalize("NFKD", ".".join((*path.parent.parts, path.stem)).casefold())
    bare = "".join(character for character in plain if not unicodedata.combining(character))
    sample_id = _OTHERS.sub("-", bare).lstrip("._-")[:MAX_ID_CHARACTERS].rstrip("._-")
    if not sample_id:
        raise InvalidSampleIdError(
            f"no sample id can be made of {str(path)!r}",
            remedy="Give one with --id (sample_id=): letters a to z, digits, '.', '_' and '-'",
            path=path,
        )
    return sample_id
