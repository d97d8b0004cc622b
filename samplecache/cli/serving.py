"""serve."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from samplecache.cli.values import parse_size


class KernelChoice(StrEnum):
    """Kernels, by their names on the command line."""

    LINUX = "linux"
    SIMULATED = "simulated"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    config: Annotated[
        Path | None, typer.Option(help="TOML file; variables SAMPLECACHE_* and flags win over it.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="host:port (0 picks a port) or unix:PATH; repeatable."),
    ] = None,
    kernel: Annotated[KernelChoice | None, typer.Option(help="Which kernel is under the cache.")] = None,
    device: Annotated[
        str | None, typer.Option(metavar="PROFILE|FILE.toml", help="Device of the simulated kernel.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Memory of the simulated kernel.")
    ] = None,
    swap: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Swap of the simulated kernel.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated kernel.")] = None,
    budget: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="The most that all samples may take.")
    ] = None,
    lock_budget: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="The most to lock.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that stream: about one for each core to be used.")
    ] = None,
    default_strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help="For requests and samples that name none.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for Prometheus on localhost; 0 picks one.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that clients must send.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain; needs --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key; needs --tls-cert.")] = None,
    grace_s: Annotated[
        float | None, typer.Option(min=0, help="How long streams may play on after SIGTERM or SIGINT.")
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any setting of the file, such as max_sessions=64; repeatable."
        ),
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT. What no flag sets comes from variables, the file, or defaults.

    docs/samplecache.toml lists every setting.
    """
    from samplecache.service.config import ServerConfig
    from samplecache.service.server import serve as serve_forever

    flags = {
        "listen": tuple(listen) if listen else None,
        "kernel": None if kernel is None else kernel.value,
        "device": device,
        "memory": memory,
        "swap": swap,
        "seed": seed,
        "budget": budget,
        "lock_budget": lock_budget,
        "workers": workers,
        "default_strategy": default_strategy,
        "metrics_port": metrics_port,
        "token_file": token_file,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "grace_s": grace_s,
    }
    named = {name: value for name, value in flags.items() if value is not None}
    serve_forever(ServerConfig.load(config, **_settings(other or []), **named))


def _settings(assignments: list[str]) -> dict[str, str]:
    """Return what ``NAME=VALUE`` says, flag by flag."""
    pairs = [assignment.partition("=") for assignment in assignments]
    for name, equals, _ in pairs:
        if not (name.isidentifier() and equals):
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}
