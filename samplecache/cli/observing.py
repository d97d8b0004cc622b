"""strategies, stats, watch."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from samplecache.cli.connect import connect
from samplecache.cli.values import JsonFlag
from samplecache.clock import NS_PER_MS

if TYPE_CHECKING:
    from samplecache.v1.samplecache_pb2 import GetStatsResponse, WatchEventsResponse


class EventName(StrEnum):
    """Kinds of event, by their names on the command line."""

    UNDERRUN = "underrun"
    PREFETCH_DONE = "prefetch-done"
    DEGRADED = "degraded"
    EVICTED = "evicted"
    SESSION_ENDED = "session-ended"
    CUE_SETTLED = "cue-settled"
    OVERLOADED = "overloaded"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (strategies, stats, watch):
        app.command()(command)


def strategies(
    context: typer.Context,
    explain: Annotated[
        str, typer.Option(metavar="SAMPLE_ID", help="Say what auto comes to for this sample, and why.")
    ] = "",
    lead_ms: Annotated[int | None, typer.Option(min=0, help="With --explain: how long before it is due.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List strategies, and plugins that could not be used; or explain what auto comes to."""
    from samplecache.cli import render
    from samplecache.cli.document import document, print_json

    with connect(context) as client:
        response = client.strategies(explain, lead_ns=None if lead_ms is None else lead_ms * NS_PER_MS)
    if as_json:
        print_json(document(response))
        return
    if explain:
        for line in render.binding(response.explained):
            typer.echo(line)
        return
    rows = [
        (
            strategy.name + (" (default)" if strategy.name == (response.default_strategy or "none") else ""),
            strategy.summary,
            render.standing(strategy.permitted, strategy.useful),
            strategy.fallback,
            strategy.origin,
        )
        for strategy in response.strategies
    ]
    columns = ("name", "what it does", "here", "fallback", "from")
    render.print_table(columns, rows, empty="No strategies.")
    for strategy in response.strategies:
        if strategy.why:
            typer.echo(f"{strategy.name}: {strategy.why}")
    for problem in response.problems:
        typer.echo(f"plugin {problem.origin} is not used: {problem.why}")


def stats(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show counters and gauges of the server."""
    from samplecache.cli.document import document, print_json

    with connect(context) as client:
        response = client.stats()
    if as_json:
        print_json(document(response))
    else:
        _print_stats(response)


def watch(
    context: typer.Context,
    kinds: Annotated[
        list[EventName] | None, typer.Option("--kind", help="Only these kinds; repeatable. Default: all.")
    ] = None,
    sample_id: Annotated[str, typer.Option("--sample", metavar="ID", help="Only events of this sample.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many events; 0 for never.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show what happens on the server until interrupted. With --json, a line for each event."""
    from samplecache.cli.document import document, print_json_line
    from samplecache.v1.samplecache_pb2 import EventKind

    wanted = [EventKind.Value(f"EVENT_KIND_{kind.name}") for kind in kinds or ()]
    seen = 0
    with connect(context) as client, client.watch(wanted, sample_id) as events:
        for response in events:
            kind = response.WhichOneof("event")
            if as_json:
                happened = {} if kind is None else document(getattr(response, kind))
                print_json_line(
                    {"event": kind, "time": response.time.ToJsonString(), "lost": response.lost, **happened}
                )
            else:
                typer.echo(_event_line(response))
            seen += kind != "started"
            if limit and seen >= limit:
                return


def _event_line(response: WatchEventsResponse) -> str:
    from samplecache.cli import render
    from samplecache.cli.document import enum_name
    from samplecache.cli.scheduling import cue_line
    from samplecache.v1.playback_pb2 import UnderrunCause

    lost = f" ({response.lost} events lost before)" if response.lost else ""
    match response.WhichOneof("event"):
        case "started":
            text = "watching"
        case "underrun":
            late = response.underrun.underrun
            cause = enum_name(UnderrunCause.DESCRIPTOR, late.cause).replace("_", " ")
            text = (
                f"underrun: {response.underrun.sample_id} in {response.underrun.session_id} at frame "
                f"{late.frame_offset}, {render.duration(late.late.ToNanoseconds())} late: {cause} "
                f"({late.faults.major} major, {late.faults.minor} minor faults), strategy {response.underrun.strategy}"
            )
        case "prefetch_done":
            done = response.prefetch_done
            outcome = "cancelled" if done.cancelled else render.outcome(done.result)
            text = (
                f"prefetched: {done.sample_id}, {done.result.pages_brought_in} of {done.result.pages_needed} pages in "
                f"{render.duration(done.result.elapsed.ToNanoseconds())}, {outcome}, strategy {done.strategy}"
            )
        case "degraded":
            less = response.degraded
            text = f"degraded: {less.sample_id} got {less.strategy} instead of {less.wanted}: {less.why}"
        case "evicted":
            gone = response.evicted
            text = f"evicted: {gone.sample_id}, which freed {render.size(gone.freed_bytes)}"
        case "cue_settled":
            text = f"{response.cue_settled.schedule_id}: {cue_line(response.cue_settled.cue)}"
        case "session_ended":
            ended = response.session_ended
            text = (
                f"ended: {ended.session_id} of {ended.sample_id}, {ended.late_blocks} of {ended.blocks} blocks late; "
                f"brought in ahead: {render.prefetched(ended.prefetched)}, of {ended.played_pages} pages played, "
                f"strategy {ended.strategy}"
            )
        case "overloaded":
            told = response.overloaded
            becomes = "has to yield" if told.overload.shed else "has its place again"
            text = (
                f"overloaded: {told.sample_id} in {told.session_id} {becomes}: "
                f"{render.size(told.overload.needed_bytes_per_s)}/s are played, the swap device carries "
                f"{render.size(told.overload.device_bytes_per_s)}/s, strategy {told.strategy}"
            )
        case _:
            text = "an event that this version does not know"
    return f"{response.time.ToJsonString()} {text}{lost}"


def _print_stats(response: GetStatsResponse) -> None:
    from samplecache.cli import render
    from samplecache.v1.samplecache_pb2 import PressureLevel

    ahead = response.prefetch_budget

    render.print_facts(
        (
            ("kernel", response.kernel),
            ("since", response.start_time.ToJsonString()),
            ("samples", f"{response.samples} ({response.contents} distinct)"),
            ("memory", f"{render.size(response.used_bytes)} of {render.size(response.budget_bytes)}"),
            ("locked", f"{render.size(response.locked_bytes)} of {render.size(response.lock_budget_bytes)}"),
            (
                "brought in ahead",
                f"{render.size(ahead.used_bytes)} of {render.size(ahead.effective_bytes)}, at most "
                f"{render.size(ahead.peak_bytes)} of {render.size(ahead.budget_bytes)}; memory pressure: "
                f"{PressureLevel.Name(ahead.pressure).rpartition('_')[2].lower()}",
            ),
            ("sessions", response.sessions),
            ("prefetches", response.prefetches),
            ("uploads", response.uploads),
            ("cues", response.cues),
            ("evictions", response.evictions),
            (
                "triggers",
                f"{response.triggers.samples}, {response.triggers.heads} with a head: {response.triggers.locked_pages} "
                f"pages locked, {response.triggers.warm_pages} warm, {response.triggers.repopulated_pages} repopulated",
            ),
            ("swap traffic", f"{response.swap_in_pages} pages in, {response.swap_out_pages} pages out (whole machine)"),
            (
                "wake lateness",
                f"worst {render.duration(response.witness.worst.ToNanoseconds())}, p99.9 "
                f"{render.duration(response.witness.p999.ToNanoseconds())}, stolen "
                f"{render.duration(response.witness.steal.ToNanoseconds())}",
            ),
        )
    )
    columns = (
        "strategy",
        "sessions",
        "blocks",
        "late",
        "longest stall",
        "faults (major/minor)",
        "prefetches",
        "pages in",
        "useful/late/wasted",
        "swap-ins a page",
    )
    rows = [
        (
            sums.strategy,
            sums.sessions,
            sums.blocks,
            sums.late_blocks,
            render.duration(sums.longest_stall.ToNanoseconds()),
            f"{sums.faults.major}/{sums.faults.minor}",
            sums.prefetches,
            f"{sums.pages_brought_in}/{sums.pages_needed}",
            f"{sums.prefetched.useful}/{sums.prefetched.late}/{sums.prefetched.wasted}",
            render.swap_ins(sums.prefetched.asked, sums.played_pages),
        )
        for sums in response.strategies
    ]
    render.print_table(columns, rows, empty="Nothing has been played or prefetched yet.", numbers=columns[1:])
