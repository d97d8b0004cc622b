"""Programs of others that contenders take."""

from __future__ import annotations

import shutil

from samplecache.errors import NotPermittedError


def require(packages: dict[str, str]) -> None:
    """Raise unless all programs are there.

    Parameters
    ----------
    packages : dict
        The Debian package of each, by the program's name.

    Raises
    ------
    NotPermittedError
        One is missing; the remedy names its package.
    """
    for program, package in packages.items():
        if shutil.which(program) is None:
            raise NotPermittedError(
                f"{program} is missing", remedy=f"Install it, on Debian and Ubuntu: apt-get install {package}"
            )
