"""Finding the player, which is a package of its own: who only serves needs neither it nor sound."""

from __future__ import annotations

import importlib.util

from samplecache.errors import NotFoundError


def load_player() -> None:
    """Make sure that ``samplecache_player`` can be imported.

    Raises
    ------
    NotFoundError
        It is not installed.
    """
    if importlib.util.find_spec("samplecache_player") is None:
        raise NotFoundError(
            "the player is not installed",
            remedy="Put the folder demo/ of the source on PYTHONPATH, or use --output -",
            reason="PLAYER_MISSING",
        )
