"""What a scenario file says, table by table. Times and sizes bear their unit in the key's name or in the text."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter

from samplecache.audio.format import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, Encoding
from samplecache.errors import InvalidError
from samplecache.lab.swap_device import SwapDevice

NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,40}$"
DAY_S: Final = 86_400.0
MOST_SAMPLES: Final = 10_000
MOST_TIMES: Final = 10_000
AMPLE: Final = "ample"

_SIZE: Final[TypeAdapter[ByteSize]] = TypeAdapter(ByteSize)


def _device(name: str) -> str:
    try:
        SwapDevice.parse(name)
    except InvalidError as error:
        raise ValueError(f"{error.message}: give unthrottled, zram, or a limit such as 400iops or 2MB/s") from None
    return name


def parse_memory(text: str) -> float | int | None:
    """Return how much memory there is: a part of the samples' size, a number of bytes, or None for ample.

    Parameters
    ----------
    text : str
        ``"ample"``, ``"0.5x"`` (of the samples, beside what a contender needs without them) or ``"48MiB"`` (in all).

    Raises
    ------
    InvalidError
        It is none of these.
    """
    if text == AMPLE:
        return None
    try:
        if text.endswith("x"):
            part = float(text.removesuffix("x"))
            if 0 < part < float("inf"):
                return part
        else:
            size_bytes = int(_SIZE.validate_python(text))
            if size_bytes > 0:
                return size_bytes
    except ValueError:
        pass
    raise InvalidError(f"{text!r} is no amount of memory", remedy="Give ample, a part such as 0.5x, or a size as 48MiB")


def _memory(text: str) -> str:
    try:
        parse_memory(text)
    except InvalidError as error:
        raise ValueError(f"{error.message}: give ample, a part of the samples such as 0.5x, or 48MiB") from None
    return text


def _lengths(given: float | list[float]) -> float | list[float]:
    both = given if isinstance(given, list) else [given, given]
    if len(both) != 2 or not 0 < both[0] <= both[1] <= DAY_S:
        raise ValueError(f"{given} is no length: give one of up to a day, or two, the shorter first")
    return given


def _pair(given: list[float]) -> list[float]:
    if len(given) != 2:
        raise ValueError(f"{given} is no jump: give when it comes and where it goes to, [AFTER_S, TO_S]")
    return given


def _size(value: object) -> object:
    """Return the bytes that a text such as ``"32MiB"`` means."""
    try:
        return int(_SIZE.validate_python(value)) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{value!r} is no size: give bytes or a text such as '32MiB'") from None


Name = Annotated[str, Field(pattern=NAME)]
ContenderName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9:._-]{0,60}$")]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]
Seconds = Annotated[float, Field(ge=0, le=DAY_S)]
Length = Annotated[float, Field(gt=0, le=DAY_S)]
Lengths = Annotated[float | list[float], AfterValidator(_lengths)]
Device = Annotated[str, AfterValidator(_device)]
Memory = Annotated[str, AfterValidator(_memory)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0, le=1 << 40)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class SampleTable(_Table):
    """``[[sample]]``: one, or a set of them that are synthesised or lie in a folder.

    Attributes
    ----------
    name : str
        What it is called. One of many is ``name-000``, ``name-001``, ...; of a folder ``name-`` and the file's name.
    seconds : float or tuple of float
        Length of a synthesised one; of two numbers, lengths are drawn evenly between them.
    count : int
        How many are synthesised.
    rate_hz, channels : int
        Format of a synthesised one.
    tags : list of str
        What it is tagged with; ``trigger`` has a strategy keep its head in RAM.
    encoding : Encoding
        How it is stored, whether synthesised or read.
    file, folder : str or None
        An audio file, or a folder of them, instead; relative to the scenario file.
    """

    name: Name
    seconds: Lengths | None = None
    count: int = Field(default=1, ge=1, le=MOST_SAMPLES)
    rate_hz: int = Field(default=48_000, ge=MIN_RATE_HZ, le=MAX_RATE_HZ)
    channels: int = Field(default=2, ge=1, le=MAX_CHANNELS)
    tags: list[Name] = Field(default=[], max_length=16)
    encoding: Encoding = Field(default=Encoding.S16, strict=False)
    file: str | None = None
    folder: str | None = None


class _Part(_Table):
    """What streams and triggers share.

    Attributes
    ----------
    samples : str
        Which: a name, or a pattern with ``*``.
    hint_ahead_s : float or None
        How long before it sounds each is announced; None for the scenario's own.
    announced : bool
        False if nobody knows before.
    sway_ms : float
        How far its beginning is off its time at most, to either side; drawn anew in each repetition.
    """

    samples: Pattern
    hint_ahead_s: Seconds | None = None
    announced: bool = True
    sway_ms: float = Field(default=0.0, ge=0, le=1000)


class StreamTable(_Part):
    """``[[stream]]``: sustained playing, a stream for each sample that the pattern names.

    Attributes
    ----------
    at_s : float
        When the first begins.
    apart_s : float
        How long after one the next begins.
    seconds : float or None
        How long each plays; None to its end.
    loop : bool
        Whether it begins again at its end. Needs `seconds`.
    start_s : float
        Where in the sample it begins.
    seeks : list of list of float
        Jumps: so many seconds after the stream began, to so many seconds into the sample.
    """

    at_s: Seconds = 0.0
    apart_s: Seconds = 0.0
    seconds: Length | None = None
    loop: bool = False
    start_s: Seconds = 0.0
    seeks: list[Annotated[list[Seconds], AfterValidator(_pair)]] = Field(default=[], max_length=1000)


class Order(enum.Enum):
    """Which sample is struck next."""

    IN_TURN = "in-turn"
    RANDOM = "random"
    ONCE = "once"
    """In a random order, none again before all have been."""


class TriggerTable(_Part):
    """``[[trigger]]``: samples struck at times, each played to its end.

    Attributes
    ----------
    at_s : list of float or None
        When; or
    every_s, from_s, until_s : float
        how often, from when until when; or
    midi : str or None
        a MIDI file, relative to the scenario file, whose notes begin at `from_s`.
    notes : dict
        For a MIDI file: note number to sample, ``{36 = "kick"}``. Notes that it does not name are not played.
    order : Order
        Which of the samples is struck next; not for a MIDI file.
    """

    samples: Pattern = "*"
    at_s: list[Seconds] | None = Field(default=None, min_length=1, max_length=MOST_TIMES)
    every_s: Length | None = None
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    midi: str | None = None
    notes: dict[str, Pattern] = Field(default={}, max_length=128)
    order: Order = Field(default=Order.IN_TURN, strict=False)


class LoadTable(_Table):
    """``[[load]]``: another process that allocates memory and keeps writing to it.

    Attributes
    ----------
    memory : int
        How much, in bytes: ``"32MiB"``.
    rate : int
        How fast it writes, in bytes a second: ``"20MB"``.
    from_s, until_s : float
        When; until the last sample has sounded if `until_s` is missing.
    idle : bool
        Whether it also runs while samples lie idle.
    """

    memory: Size
    rate: Size
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    idle: bool = False


class Scenario(_Table):
    """A scenario file.

    Attributes
    ----------
    title, about : str
        What it is, and what it shows.
    seed : int
        Of all that is random in it. A repetition adds its number.
    repetitions : int
        How often each contender plays in each machine.
    strategies : list of str
        Strategies to compare.
    contenders : list of str
        Others to compare them with, on the real kernel.
    memory : list of str
        The machine's memory: see :func:`parse_memory`.
    devices : list of str
        Swap devices: see :class:`~samplecache.lab.swap_device.SwapDevice`.
    simulated_device : str
        The profile that stands for the disk on the simulated kernel: its name, or a file of ``samplecache calibrate``.
    hint_ahead_s : float or None
        How long before it sounds a sample is announced; None for never.
    lead_ms : float
        How long after a period could be ready it is heard: the player's buffer.
    idle_s : float
        How long samples lie idle, among loads that say so, before the first sounds. On the real kernel its effect is
        brought about at once: all that can be is paged out.
    samples, streams, triggers, loads : list
        The tables ``[[sample]]``, ``[[stream]]``, ``[[trigger]]`` and ``[[load]]``.
    """

    title: str = Field(min_length=1, max_length=120)
    about: str = ""
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    repetitions: int = Field(default=5, ge=1, le=1000)
    strategies: list[Name] = Field(min_length=1, max_length=50)
    contenders: list[ContenderName] = Field(default=[], max_length=50)
    memory: list[Memory] = Field(default=[AMPLE], min_length=1, max_length=20)
    devices: list[Device] = Field(default=["unthrottled"], min_length=1, max_length=20)
    simulated_device: str = "ssd-sata"
    hint_ahead_s: Seconds | None = None
    lead_ms: float = Field(default=30.0, ge=0, le=30_000)
    idle_s: Seconds = 0.0
    samples: list[SampleTable] = Field(alias="sample", min_length=1, max_length=1000)
    streams: list[StreamTable] = Field(alias="stream", default=[], max_length=1000)
    triggers: list[TriggerTable] = Field(alias="trigger", default=[], max_length=1000)
    loads: list[LoadTable] = Field(alias="load", default=[], max_length=20)


class ScenarioProblem(Exception):  # noqa: N818 -- it becomes an error where the file is known
    """What is wrong with a scenario, and where.

    Parameters
    ----------
    where : tuple
        Table, index, key.
    what, remedy : str
        As in :class:`~samplecache.errors.SamplecacheError`.
    """

    def __init__(self, where: tuple[str | int, ...], what: str, remedy: str) -> None:
        super().__init__(what)
        self.where = where
        self.what = what
        self.remedy = remedy


def check(scenario: Scenario) -> None:
    """Raise for the first contradiction within a table, or between two.

    Raises
    ------
    ScenarioProblem
    """
    for problem in _problems(scenario):
        raise problem


def _problems(scenario: Scenario) -> Iterator[ScenarioProblem]:
    seen: set[str] = set()
    for index, sample in enumerate(scenario.samples):
        at = ("sample", index)
        if sample.name in seen:
            yield ScenarioProblem((*at, "name"), f"two samples are called {sample.name!r}", "Rename one of them")
        seen.add(sample.name)
        given = [name for name in ("seconds", "file", "folder") if getattr(sample, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) if given else "neither seconds, file nor folder"
            yield ScenarioProblem(at, f"the sample has {what}", "Give it one of seconds, file and folder")
        if sample.count > 1 and sample.seconds is None:
            yield ScenarioProblem((*at, "count"), "only what is synthesised has a count", "Leave out the count")
    if not scenario.streams and not scenario.triggers:
        yield ScenarioProblem((), "nothing is played", "Add a [[stream]] or a [[trigger]]")
    for index, stream in enumerate(scenario.streams):
        if stream.loop and stream.seconds is None:
            yield ScenarioProblem(("stream", index, "loop"), "the loop never ends", "Say how long with seconds")
    for index, trigger in enumerate(scenario.triggers):
        yield from _trigger_problems(("trigger", index), trigger)
    for index, load in enumerate(scenario.loads):
        if load.until_s is not None and load.until_s < load.from_s:
            yield ScenarioProblem(("load", index, "until_s"), "the load ends before it begins", "Give a later until_s")
    for key in ("strategies", "contenders", "memory", "devices"):
        names = getattr(scenario, key)
        if twice := [name for name in names if names.count(name) > 1]:
            yield ScenarioProblem((key,), f"{twice[0]!r} is named twice", "Name each once")


def _trigger_problems(at: tuple[str, int], trigger: TriggerTable) -> Iterator[ScenarioProblem]:
    given = [name for name in ("at_s", "every_s", "midi") if getattr(trigger, name) is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "neither at_s, every_s nor midi"
        yield ScenarioProblem(at, f"the trigger has {what}", "Give it one of at_s, every_s and midi")
    if trigger.every_s is not None and trigger.until_s is None:
        yield ScenarioProblem((*at, "every_s"), "the strikes never end", "Say until when with until_s")
    if trigger.until_s is not None and trigger.until_s < trigger.from_s:
        yield ScenarioProblem((*at, "until_s"), "the strikes end before they begin", "Give a later until_s")
    if trigger.every_s is not None and trigger.until_s is not None:
        times = (trigger.until_s - trigger.from_s) / trigger.every_s
        if times > MOST_TIMES:
            yield ScenarioProblem((*at, "every_s"), f"there are {times:.0f} strikes", f"Ask for {MOST_TIMES} at most")
    if bool(trigger.notes) != (trigger.midi is not None):
        key = "notes" if trigger.notes else "midi"
        yield ScenarioProblem((*at, key), "a MIDI file and its notes need each other", 'Add notes = {36 = "kick"}')
    if trigger.midi is not None and trigger.order is not Order.IN_TURN:
        yield ScenarioProblem((*at, "order"), "a MIDI file has an order of its own", "Leave out the order")
    for note in trigger.notes:
        if not note.isdecimal() or int(note) > 127:
            yield ScenarioProblem((*at, "notes"), f"{note!r} is no MIDI note", "Give numbers from 0 to 127")


def matches(pattern: str, names: list[str]) -> list[str]:
    """Return those of `names` that `pattern` names, in their order."""
    return [name for name in names if fnmatchcase(name, pattern)]
