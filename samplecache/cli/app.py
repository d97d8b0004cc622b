"""The command line's frame: global options, its commands, and how errors look."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from samplecache import __version__
from samplecache.cli import (
    calibrating,
    doctoring,
    lab,
    observing,
    paging,
    playback,
    samples,
    scheduling,
    serving,
    topping,
)
from samplecache.cli.connect import DEFAULT_SERVER, Target
from samplecache.errors import SamplecacheError


def complain(error: SamplecacheError) -> None:
    """Print `error` as one line on stderr: what went wrong, then what to do."""
    typer.echo(f"error: {error}", err=True)


class _Commands(TyperGroup):
    """Turns errors into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; 1 if it fails."""
        try:
            return super().invoke(ctx)
        except SamplecacheError as error:
            complain(error)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="samplecache",
    help="Keeps audio samples in memory and has their pages back in RAM before they are played.",
    cls=_Commands,
    no_args_is_help=True,
    # Plain help and usage errors: importing rich would take as long as all the rest of --help.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"samplecache {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    server: Annotated[
        str, typer.Option("--server", "-s", envvar="SAMPLECACHE_SERVER", help="host:port or unix:PATH.")
    ] = DEFAULT_SERVER,
    token: Annotated[
        str | None, typer.Option(envvar="SAMPLECACHE_TOKEN", help="Token, if the server demands one.")
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(envvar="SAMPLECACHE_TLS_CA", help="Use TLS; PEM certificates to verify the server by."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    context.obj = Target(server, token, tls_ca)


for _module in (serving, samples, paging, scheduling, playback, observing, topping, doctoring, calibrating, lab):
    _module.register(app)


def main() -> None:
    """Run the command line and exit: 0, 1 for an error, 2 for wrong usage, 130 when interrupted."""
    app()
