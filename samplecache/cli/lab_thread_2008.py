"""``samplecache lab thread-2008``: the page about the thread of 2008, from figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from samplecache.errors import InvalidError

PAGE: Final = "the-2008-thread"
"""Name of the page, and of the directory beside it with plots and figures."""
RESULTS: Final = "results.json"


def register(lab: typer.Typer) -> None:
    """Add ``thread-2008``."""
    lab.command("thread-2008")(_thread_2008)


def _thread_2008(
    output: Annotated[Path, typer.Option(file_okay=False, help="Directory for the page.")] = Path("docs"),
    seeds: Annotated[int, typer.Option(min=1, help="How many runs of each row on each device.")] = 5,
    devices: Annotated[
        str, typer.Option(help="Names of device profiles, with commas between; repeats count once.")
    ] = "hdd-laptop-2008,hdd-7200,ssd-sata,nvme-p3700,zram-lz4",
    processes: Annotated[int, typer.Option(min=0, help="Runs at a time; 0 for one a core.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Small and short runs, whose figures mean nothing.")] = False,
    figures: Annotated[
        Path | None, typer.Option(dir_okay=False, exists=True, help="Write the page from these figures; run nothing.")
    ] = None,
) -> None:
    """Answer the thread of 2008 about MADV_WILLNEED for anonymous memory, claim by claim, with simulated figures.

    Writes the-2008-thread.md, and beside it a directory with plots and the figures of each run. Takes some minutes.
    """
    from samplecache.cli.render import progress, stdout
    from samplecache.lab.thread2008.experiment import FULL, QUICK
    from samplecache.lab.thread2008.figures import Results
    from samplecache.lab.thread2008.page import page
    from samplecache.lab.thread2008.plots import draw, require_matplotlib
    from samplecache.lab.thread2008.suite import investigate
    from samplecache.simulation.device import device_profile

    # All that can be wrong is found out before minutes are spent, and before anything is written.
    require_matplotlib()
    results = None if figures is None else Results.from_json(figures.read_text(encoding="utf-8", errors="replace"))
    names = tuple(dict.fromkeys(devices.split(",")))
    for name in names:
        device_profile(name)
    directory = output / PAGE
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidError(
            f"{directory} cannot be made ({error.strerror})", remedy="Give --output a directory that can be written"
        ) from error
    if results is None:
        with progress(in_bytes=False) as shown:
            task = shown.add_task("runs", total=None)
            results = investigate(
                QUICK if quick else FULL,
                names,
                tuple(range(seeds)),
                lambda done, total: shown.update(task, completed=done, total=total),
                processes or None,
            )
    (directory / RESULTS).write_text(results.to_json(), encoding="utf-8")
    (output / f"{PAGE}.md").write_text(page(results, PAGE), encoding="utf-8")
    draw(results, directory)
    stdout().print(f"SIMULATED: {len(results.runs)} runs; {output / PAGE}.md")
