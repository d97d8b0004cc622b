"""What options may be: formats, sizes, and the options that several commands share."""

from __future__ import annotations

import os
import re
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.errors import InvalidFormatError, NotPermittedError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_EXPONENTS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class EncodingName(StrEnum):
    """Encodings, by their names on the command line."""

    U8 = "u8"
    S16 = "s16"
    S24 = "s24"
    S32 = "s32"
    F32 = "f32"
    F64 = "f64"


def encoding_of(name: EncodingName | None) -> Encoding | None:
    """Return the encoding of that name, None for None."""
    return None if name is None else Encoding(name.value)


def parse_size(text: str) -> int:
    """Return bytes: ``65536``, ``64KiB`` (1024s), ``64kB`` (1000s).

    Raises
    ------
    typer.BadParameter
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size. Give bytes or a suffix, such as 64MiB")
    number, letter, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _EXPONENTS[letter.lower()])


def parse_raw_format(text: str) -> AudioFormat:
    """Return the format that ``RATE:CHANNELS:ENCODING`` says.

    Raises
    ------
    typer.BadParameter
    """
    try:
        rate, channels, encoding = text.split(":")
        return AudioFormat(int(rate), int(channels), Encoding(encoding.lower()))
    except InvalidFormatError as error:
        raise typer.BadParameter(str(error)) from None
    except ValueError:
        known = ", ".join(name.value for name in Encoding)
        raise typer.BadParameter(
            f"{text!r} is no format. Give RATE:CHANNELS:ENCODING, such as 48000:2:s16, with one of {known}"
        ) from None


def check_writable(file: Path | None) -> None:
    """Raise if `file` cannot be written, before the time is spent that finding out what to write takes.

    Leaves no file where there was none.

    Raises
    ------
    NotPermittedError
    """
    if file is None:
        return
    try:
        if file.exists():
            writable = os.access(file, os.W_OK)
        else:  # only trying tells: permissions do not bind root, and some file systems take no files
            file.touch(exist_ok=False)
            file.unlink()
            writable = True
    except OSError:
        writable = False
    if not writable:
        raise NotPermittedError(f"{file} cannot be written", remedy="Name a file in a directory that you may write to")


def lower_name(member: Enum) -> str:
    """Return how a member of an enum is written on the command line."""
    return member.name.lower()


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SampleId = Annotated[str, typer.Argument(metavar="ID", help="The sample.")]
StartFrame = Annotated[int, typer.Option("--start", min=0, help="First frame.")]
FrameCount = Annotated[int, typer.Option("--frames", min=0, help="Frames; 0 for all to the end.")]
StrategyName = Annotated[str, typer.Option("--strategy", help="Strategy, or auto; else the sample's or the server's.")]
