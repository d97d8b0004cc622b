"""The swap devices that a rig can have: this machine's disk under a limit or none, or zram."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from samplecache.errors import InvalidError

_LIMIT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(iops|kB/s|MB/s)", re.IGNORECASE)
_BYTES: Final = {"kb/s": 10**3, "mb/s": 10**6}


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """A device to swap to.

    Attributes
    ----------
    name : str
        As it was asked for.
    zram : bool
        Whether it is compressed memory rather than a disk.
    read_iops, read_bytes_per_s : int or None
        A limit on its reads.
    """

    name: str
    zram: bool = False
    read_iops: int | None = None
    read_bytes_per_s: int | None = None

    @property
    def description(self) -> str:
        """What it is, for people."""
        if self.zram:
            return "zram"
        if self.read_iops is not None:
            return f"fresh swap file, at most {self.read_iops} swap reads a second"
        if self.read_bytes_per_s is not None:
            return f"fresh swap file, at most {self.read_bytes_per_s} bytes read a second"
        return "fresh swap file, no limit"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the device called `name`: ``unthrottled``, ``zram``, ``400iops``, ``2MB/s``.

        Raises
        ------
        InvalidError
            There is no such device.
        """
        if name == "unthrottled":
            return cls(name)
        if name == "zram":
            return cls(name, zram=True)
        match = _LIMIT.fullmatch(name)
        if match is None or float(match[1]) <= 0:
            raise InvalidError(
                f"{name!r} is no device", remedy="Give unthrottled, zram, or a limit on reads such as 400iops or 2MB/s"
            )
        number, unit = match[1], match[2].lower()
        if unit == "iops":
            return cls(name, read_iops=max(1, round(float(number))))
        return cls(name, read_bytes_per_s=max(1, round(float(number) * _BYTES[unit])))
