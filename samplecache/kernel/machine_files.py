"""Files that say what a machine is like, for the simulated kernel: a swap device and what paging costs the CPU.

``samplecache calibrate`` writes them, and wherever a device is named a file may be named instead. They are TOML::

    [device]                      # fields of DeviceProfile
    name = "swap file on vda"
    source = "measured on Linux 6.18"
    servers = 256
    latency_ns = 130000
    [device.read_limit]           # fields of ReadLimit
    iops = 400
    [cpu]                         # CPU times of SimulationOptions
    fault_ns = 1400
    [kernel]
    page_cluster = 3
    readahead = "cluster"

All but ``[device]`` may be missing. A table ``[measured]`` is for people, and not read.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError
from samplecache.simulation.device import DeviceProfile
from samplecache.simulation.options import ReadaheadMode, SimulationOptions
from samplecache.simulation.throttle import HZ, HZ_MAX, ReadLimit

SUFFIX: Final = ".toml"
"""What tells a file from the name of a device."""


# Far beyond any machine, and so small that no sum of them is out of the simulation's reach.
_Servers = Annotated[int, Field(le=1 << 16)]
_Time = Annotated[int, Field(le=60 * NS_PER_S)]
_Rate = Annotated[int, Field(le=10**15)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Limit(_Table):
    iops: _Rate | None = None
    bytes_per_s: _Rate | None = None
    hz: int = Field(default=HZ, le=HZ_MAX)


class _Device(_Table):
    name: str
    source: str
    servers: _Servers = 1
    latency_ns: _Time = 0
    bandwidth_bytes_per_s: _Rate | None = None
    positioning_ns: _Time = 0
    page_ns: _Time | None = None
    iops: _Rate | None = None
    limit_bytes_per_s: _Rate | None = None
    request_ns: _Time = 0
    read_limit: _Limit | None = None


class _Cpu(_Table):
    fault_ns: _Time | None = None
    submit_ns: _Time | None = None
    request_ns: _Time | None = None


class _Kernel(_Table):
    page_cluster: int | None = Field(default=None, ge=0, le=31)
    readahead: ReadaheadMode | None = Field(default=None, strict=False)


class _File(_Table):
    device: _Device
    cpu: _Cpu = _Cpu()
    kernel: _Kernel = _Kernel()
    measured: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class MachineProfile:
    """What a file says of a machine. What is None is left to the defaults of :class:`SimulationOptions`.

    Attributes
    ----------
    device : DeviceProfile
        The swap device.
    fault_ns, submit_ns, request_ns : int or None
        CPU times, in nanoseconds: of a fault, of queueing a page, of handing a request to the device.
    page_cluster : int or None
        ``vm.page-cluster``.
    readahead : ReadaheadMode or None
        Which neighbours are read ahead.
    """

    device: DeviceProfile
    fault_ns: int | None = None
    submit_ns: int | None = None
    request_ns: int | None = None
    page_cluster: int | None = None
    readahead: ReadaheadMode | None = None

    def options(
        self, *, memory_bytes: int, swap_bytes: int, seed: int = 0, page_bytes: int = 4096
    ) -> SimulationOptions:
        """Return a simulated machine of this kind.

        Raises
        ------
        ConfigurationError
            The figures contradict each other.
        """
        given = {
            name: value
            for name in ("fault_ns", "submit_ns", "request_ns", "page_cluster", "readahead")
            if (value := getattr(self, name)) is not None
        }
        return SimulationOptions(
            device=self.device,
            memory_pages=memory_bytes // page_bytes,
            swap_slots=swap_bytes // page_bytes,
            page_bytes=page_bytes,
            seed=seed,
            **given,
        )

    @classmethod
    def read(cls, path: Path) -> MachineProfile:
        """Return what the file at `path` says.

        Raises
        ------
        ConfigurationError
            It cannot be read, is no TOML, or a value is missing, unknown or impossible; names the file and the key.
        """
        try:
            with path.open("rb") as file:
                found = _File.model_validate(tomllib.load(file))
            return _profile(found)
        except OSError as error:
            raise _error(path, error.strerror or str(error), "Name a readable file") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise _error(
                path, f"{key}: {first['msg']}", "Correct that key; 'samplecache calibrate' writes what is allowed"
            ) from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error.message}", remedy=error.remedy, file=path) from error
        except (ValueError, RecursionError) as error:  # bytes, syntax, too many digits or brackets
            raise _error(path, f"is no TOML: {error}", "Have 'samplecache calibrate' write one") from error

    def text(self, measured: dict[str, str] | None = None) -> str:
        """Return this as the text of a file; `measured` are lines for people, by name."""
        device = {name: value for name, value in _given(self.device).items() if name != "read_limit"}
        limit = self.device.read_limit
        tables: list[tuple[str, dict[str, Any]]] = [
            ("device", device),
            ("device.read_limit", _given(limit) if limit is not None else {}),
            ("cpu", {name: getattr(self, name) for name in _Cpu.model_fields}),
            (
                "kernel",
                {
                    "page_cluster": self.page_cluster,
                    "readahead": None if self.readahead is None else self.readahead.value,
                },
            ),
            ("measured", measured or {}),
        ]
        return "\n".join(
            _table_text(name, values) for name, values in tables if any(v is not None for v in values.values())
        )


def simulation_options(device: str, *, memory_bytes: int, swap_bytes: int, seed: int = 0) -> SimulationOptions:
    """Return the machine with the device called `device`, or the one that the file of that name, ``*.toml``, describes.

    Raises
    ------
    ConfigurationError
        There is no such device or file, or it is wrong.
    """
    if device.endswith(SUFFIX):
        profile = MachineProfile.read(Path(device))
        try:
            return profile.options(memory_bytes=memory_bytes, swap_bytes=swap_bytes, seed=seed)
        except ConfigurationError as error:
            raise ConfigurationError(f"{device}: {error.message}", remedy=error.remedy, file=device) from error
    return SimulationOptions.for_device(device, memory_bytes=memory_bytes, swap_bytes=swap_bytes, seed=seed)


def _profile(found: _File) -> MachineProfile:
    fields = found.device.model_dump(exclude={"read_limit"})
    limit = found.device.read_limit
    device = DeviceProfile(**fields, read_limit=None if limit is None else ReadLimit(**limit.model_dump()))
    return MachineProfile(device, **found.cpu.model_dump(), **found.kernel.model_dump())


def _given(figures: DeviceProfile | ReadLimit) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    return {
        field.name: value
        for field in dataclasses.fields(figures)
        if (value := getattr(figures, field.name)) != field.default
    }


def _table_text(name: str, values: dict[str, Any]) -> str:
    # JSON's strings and integers are TOML's, too.
    lines = [f"{_key(key)} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[{name}]", *lines, ""])


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def _error(path: Path, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {what}", remedy=remedy, file=path)
