"""doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from samplecache.cli.connect import connect
from samplecache.cli.values import JsonFlag
from samplecache.errors import SamplecacheError

if TYPE_CHECKING:
    from samplecache.v1.samplecache_pb2 import GetCapabilitiesResponse

PRESSURE_FILE: Final = Path("/proc/pressure/memory")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    local: Annotated[bool, typer.Option("--local", help="Ask this machine's kernel instead of the server.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Take down what test rigs left behind. Needs root.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell what the kernel permits and what of it is useful, and check sound and memory pressure."""
    from samplecache.cli.document import document, print_json

    cleaned = _clean() if clean else []
    found, failure = None, None
    try:
        found = _local_capabilities() if local else _served_capabilities(context)
    except SamplecacheError as error:
        failure = error
    checks = {"sound": check_sound(), "memory_pressure": check_pressure(PRESSURE_FILE)}
    if as_json:
        capabilities = None if found is None else document(found)
        print_json(
            {"asked": "local" if local else context.obj.server, "kernel": capabilities, **checks, "cleaned": cleaned}
        )
    else:
        for journal in cleaned:
            typer.echo(f"took down the rig of {journal}")
        if found is not None:
            _print_capabilities(found)
        for name, check in checks.items():
            remedy = f" {check['remedy']}." if check["remedy"] else ""
            typer.echo(
                f"{name.replace('_', ' ')}: {'works' if check['works'] else 'does not work'}: {check['why']}.{remedy}"
            )
    if failure is not None:
        raise failure


def check_sound() -> dict[str, Any]:
    """Return whether PortAudio finds a device to play on, and why."""
    from samplecache_player.device import load_sounddevice

    try:
        sounddevice = load_sounddevice()
        name = sounddevice.query_devices(kind="output")["name"]
    except SamplecacheError as error:
        return _check(False, error.message, error.remedy)
    except Exception as error:  # PortAudioError, which cannot be named before the library is there
        return _check(False, f"PortAudio has no output device ({error})", "Attach one, or start a sound server")
    return _check(True, f"PortAudio plays on {name}")


def check_pressure(file: Path) -> dict[str, Any]:
    """Return whether the kernel tells of memory pressure (PSI), and what."""
    try:
        some = file.read_text().splitlines()[0]
    except OSError as error:
        return _check(
            False, f"{file} cannot be read ({error.strerror})", "Use a kernel with CONFIG_PSI, booted with psi=1"
        )
    averages = dict(part.split("=") for part in some.split()[1:])
    return _check(
        True, f"tasks waited for memory {averages['avg10']} % of the last 10 s, {averages['avg60']} % of 60 s"
    )


def _check(works: bool, why: str, remedy: str = "") -> dict[str, Any]:
    return {"works": works, "why": why, "remedy": remedy}


def _clean() -> list[str]:
    from samplecache.lab.rig import Rig

    return [str(journal) for journal in Rig.clean_leftovers()]


def _served_capabilities(context: typer.Context) -> GetCapabilitiesResponse:
    with connect(context) as client:
        return client.capabilities()


def _local_capabilities() -> GetCapabilitiesResponse:
    from samplecache.kernel.ledger import default_lock_budget
    from samplecache.kernel.linux import LinuxKernel
    from samplecache.service import translate

    kernel = LinuxKernel()
    found = kernel.probe()
    kernel.close()
    return translate.capabilities(found, default_lock_budget(found), kernel.page_bytes)


def _print_capabilities(found: GetCapabilitiesResponse) -> None:
    from samplecache.cli import render

    limit = render.size(found.lock_limit_bytes) if found.HasField("lock_limit_bytes") else "none that binds"
    swap = f"{render.size(found.swap_bytes)}: {found.swap_device}" if found.swap_bytes else "none"
    render.print_facts(
        (
            ("kernel", f"{found.kernel} ({found.release})"),
            ("swap", swap),
            ("lock limit", f"{limit}; budget {render.size(found.lock_budget_bytes)}"),
            ("page", render.size(found.page_bytes)),
        )
    )
    rows = [
        (
            capability.operation,
            render.standing(capability.permitted, capability.useful),
            capability.why,
            capability.remedy,
        )
        for capability in found.capabilities
    ]
    render.print_table(("operation", "here", "why", "remedy"), rows, empty="The kernel tells nothing.")
