"""calibrate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samplecache.cli.values import check_writable, parse_size
from samplecache.errors import NotPermittedError

if TYPE_CHECKING:
    from samplecache.lab.calibrated import Calibrated


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(calibrate)


def calibrate(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="File to write; default: standard output.")
    ] = None,
    read_iops: Annotated[int | None, typer.Option(min=1, help="Limit reads to so many pages a second.")] = None,
    read_bytes_per_s: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Limit reads to so many bytes a second.")
    ] = None,
    zram: Annotated[bool, typer.Option("--zram", help="Measure compressed memory instead of a disk.")] = False,
    existing: Annotated[
        bool, typer.Option("--existing", help="Measure the swap that there is; the only way without root.")
    ] = False,
    repetitions: Annotated[int, typer.Option(min=1, help="Values of each figure.")] = 7,
    seed: Annotated[int, typer.Option(help="Of what is written, and of the order of slots.")] = 0,
) -> None:
    """Measure this machine's swap, for the simulated kernel to be like it.

    As root in a swap file, a memory group and a limit made for the purpose, all of which go away again. The file that
    is written may be named wherever a device may: serve --kernel simulated --device FILE.toml.
    """
    from samplecache.lab.calibrated import calibrate_as_it_stands, calibrate_in_rig

    check_writable(output)
    asked = zram or read_iops is not None or read_bytes_per_s is not None
    if existing or os.geteuid() != 0:
        if asked:
            raise NotPermittedError(
                "Limits and zram need a rig, and that needs root" if not existing else "Existing swap stays as it is",
                remedy="Run as root without --existing, or leave out the limits and --zram",
            )
        if not existing:
            typer.echo("not root: no swap file can be made, so the swap that there is gets measured", err=True)
        calibrated = calibrate_as_it_stands(repetitions=repetitions, seed=seed)
    else:
        calibrated = calibrate_in_rig(
            zram=zram, read_iops=read_iops, read_bytes_per_s=read_bytes_per_s, repetitions=repetitions, seed=seed
        )
    _show(calibrated)
    if output is None:
        typer.echo(calibrated.text(), nl=False)
    else:
        output.write_text(calibrated.text(), encoding="utf-8")
        typer.echo(f"profile: {output}", err=True)


def _show(calibrated: Calibrated) -> None:
    """Print the figures on stderr: standard output may be the file."""
    from samplecache.cli.render import duration, print_table, size, stderr

    def shown(value: float, unit: str) -> str:
        if unit == "B/s":
            return f"{size(round(value))}/s"
        return f"{value:.0f} ns" if value < 1000 else duration(round(value))

    console = stderr()
    console.print(f"MEASURED: {calibrated.label}")
    columns = ("figure", "median", "least", "most")
    rows = [
        (figure.name, *(shown(value, figure.unit) for value in (figure.median, *figure.spread)))
        for figure in calibrated.measured.figures
    ]
    print_table(columns, rows, empty="nothing", numbers=columns[1:], console=console)
    passed, limit = calibrated.passed, calibrated.profile.device.read_limit
    if passed is not None and limit is not None:
        asked = f"{limit.iops} reads" if limit.iops is not None else f"{limit.bytes_per_s} bytes"
        console.print(
            f"limit of {asked} a second: {passed.at_once} pages at once, then {passed.pages_per_s:.0f} a second"
        )
