"""top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from samplecache.cli.connect import connect
from samplecache.errors import ConfigurationError

if TYPE_CHECKING:
    from samplecache.cli.connect import Target


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    context: typer.Context,
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, max=60, help="Seconds between two looks.")] = 0.5,
) -> None:
    """Show sessions as they play: where their pages are, faults, glitches, strategies. Press q to leave."""
    try:
        from samplecache.cli.top.app import Top
    except ImportError as error:
        raise ConfigurationError(
            f"The screen needs {error.name}, which is not installed", remedy="Install samplecache[top]"
        ) from error
    from samplecache.clock import NS_PER_S

    target: Target = context.obj
    with connect(context) as client:
        client.stats()  # says what is wrong before the screen is taken over
        Top(client, target.server, round(interval_s * NS_PER_S)).run()
