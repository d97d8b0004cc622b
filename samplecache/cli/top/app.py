"""The screen. It asks the server on a thread, so that one that does not answer never freezes it."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Protocol

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Static
from textual.worker import get_current_worker

from samplecache.cli.render import duration, size
from samplecache.cli.top.rates import HEAD, LEAST_BAR, MOST_BAR, TIERS, Looks, SessionRow, shortened
from samplecache.client.failure import ClientError
from samplecache.clock import NS_PER_S, MonotonicClock
from samplecache.v1 import samplecache_pb2 as pb

BROKEN: Final = "bold red"
SESSIONS: Final = "Sessions"
HELD: Final = "Sessions, held as they were; p goes on"
WIDE_NAME: Final = 24
NARROW_NAME: Final = 14
"""How much of a sample's name is shown, in a wide and in a narrow terminal."""
SESSION_COLUMNS: Final = (
    "session",
    "sample",
    "strategy",
    "at",
    "glitches",
    "pages",
    "in RAM",
    "glitches/s",
    "major/s",
    "minor/s",
    "useful/late/wasted",
)
OTHERS_WIDTH: Final = 112
"""What all columns but the sample's name and the bar take of a line at most."""
STRATEGY_COLUMNS: Final = (
    "strategy",
    "sessions",
    "blocks",
    "glitches",
    "longest stall",
    "major",
    "minor",
    "useful/late/wasted",
)


class Source(Protocol):
    """What is looked at: :class:`samplecache.client.Client` is one."""

    def sessions(self, *, with_residency: bool = False) -> Any:
        """Return the sessions open now."""
        ...

    def stats(self) -> pb.GetStatsResponse:
        """Return the server's counters."""
        ...


class Top(App[None]):
    """Sessions as they play.

    Parameters
    ----------
    source : Source
        The server.
    server : str
        Its address, for people.
    interval_ns : int
        How often it is looked at.
    """

    TITLE = "samplecache top"
    CSS = """
    Screen { background: $surface; }
    #facts { padding: 0 1; height: auto; }
    #trouble { padding: 0 1; height: auto; color: $text-error; display: none; }
    #trouble.shown { display: block; }
    #sessions { height: 2fr; }
    #strategies { height: 1fr; max-height: 12; }
    #key { padding: 0 1; height: 1; color: $text-muted; }
    .heading { padding: 1 1 0 1; text-style: bold; }
    """
    BINDINGS: ClassVar = [("q", "quit", "Quit"), ("p", "pause", "Pause")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, source: Source, server: str, interval_ns: int) -> None:
        super().__init__()
        self._source = source
        self._server = server
        self._interval_ns = interval_ns
        self._looks = Looks()
        self._paused = False
        self._looked_ns = 0
        self.looks = 0
        """How often the server has answered."""

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(id="facts")
        yield Static(id="trouble")
        with Vertical():
            yield Static(SESSIONS, id="heading", classes="heading")
            yield DataTable(id="sessions", cursor_type="none", zebra_stripes=True)
            yield Static(_key(), id="key")
            yield Static("Since the start, by strategy", classes="heading")
            yield DataTable(id="strategies", cursor_type="none", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#sessions", DataTable).add_columns(*SESSION_COLUMNS)
        self.query_one("#strategies", DataTable).add_columns(*STRATEGY_COLUMNS)
        self.look()
        self.set_interval(self._interval_ns / NS_PER_S, self.look)

    def action_pause(self) -> None:
        """Hold what is shown, or go on."""
        self._paused = not self._paused
        self.query_one("#heading", Static).update(HELD if self._paused else SESSIONS)

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def look(self) -> None:
        """Ask the server, on a thread; then show what it says."""
        if self._paused:
            return
        worker = get_current_worker()
        try:
            sessions, stats = self._source.sessions(with_residency=True), self._source.stats()
        except ClientError as error:
            if not worker.is_cancelled:
                self.call_from_thread(self.complain, str(error))
            return
        if not worker.is_cancelled:
            self.call_from_thread(self.show, sessions, stats)

    def complain(self, what: str) -> None:
        """Show what keeps the server from answering; what it said last stays."""
        trouble = self.query_one("#trouble", Static)
        trouble.update(Text(f"{self._server} does not answer: {what}"))
        trouble.add_class("shown")

    def show(self, sessions: Any, stats: pb.GetStatsResponse) -> None:
        """Show what the server says."""
        now_ns = MonotonicClock().now_ns()
        elapsed_s = max(1e-9, (now_ns - self._looked_ns) / NS_PER_S)
        self._looked_ns = now_ns
        self.query_one("#trouble", Static).remove_class("shown")
        self.query_one("#facts", Static).update(self._facts(stats, elapsed_s))
        most = WIDE_NAME if self.size.width >= OTHERS_WIDTH else NARROW_NAME
        names = min(most, max((len(info.sample.sample_id) for info in sessions), default=0))
        width = min(MOST_BAR, max(LEAST_BAR, self.size.width - OTHERS_WIDTH - names))
        rows = self._looks.rows(sessions, now_ns, width)
        _fill(self.query_one("#sessions", DataTable), [_session(row, names) for row in rows])
        _fill(self.query_one("#strategies", DataTable), [_strategy(sums) for sums in stats.strategies])
        self.looks += 1

    def _facts(self, stats: pb.GetStatsResponse, elapsed_s: float) -> Text:
        read, written = self._looks.swap_rates(stats, elapsed_s)
        kernel = "simulated kernel" if stats.kernel == "simulated" else stats.kernel
        parts = [
            (f"{self._server}  ", "bold"),
            (f"{kernel}   ", "bold magenta" if stats.kernel == "simulated" else ""),
            (f"sessions {stats.sessions}   prefetches {stats.prefetches}   samples {stats.samples}\n", ""),
            (f"memory {size(stats.used_bytes)} of {size(stats.budget_bytes)}   ", ""),
            (f"locked {size(stats.locked_bytes)} of {size(stats.lock_budget_bytes)}   ", ""),
            (f"swap {read:.0f} pages/s in, {written:.0f} out   ", ""),
            (f"wake lateness p99.9 {duration(stats.witness.p999.ToNanoseconds())}", ""),
        ]
        return Text.assemble(*parts)


def _key() -> Text:
    text = Text()
    for tier, sign, colour in TIERS[:4]:
        text.append(sign, colour)
        text.append(f" {tier.name.lower().replace('_', ' ')}   ")
    text.append(HEAD, "bold white on dark_red")
    text.append(" playhead   ")
    text.append("useful/late/wasted: pages brought in ahead")
    return text


def _number(value: float, *, alarming: bool = True) -> Text:
    shown = f"{value:.0f}" if value == 0 or value >= 10 else f"{value:.1f}"
    return Text(shown, BROKEN if value and alarming else "", justify="right")


def _session(row: SessionRow, name_width: int) -> tuple[str, list[Any]]:
    return row.session_id, [
        row.session_id,
        shortened(row.sample_id, name_width),
        row.strategy,
        f"{row.seconds:.1f} of {row.length_s:.1f} s",
        Text(f"{row.late_blocks} of {row.blocks}", BROKEN if row.late_blocks else "", justify="right"),
        row.bar,
        Text(f"{row.in_ram:.0%}", justify="right"),
        _number(row.late_rate),
        _number(row.major_rate),
        _number(row.minor_rate, alarming=False),
        Text("/".join(map(str, row.prefetched)), justify="right"),
    ]


def _strategy(sums: pb.StrategyStats) -> tuple[str, list[Any]]:
    pages = sums.prefetched
    return sums.strategy, [
        sums.strategy,
        Text(str(sums.sessions), justify="right"),
        Text(str(sums.blocks), justify="right"),
        Text(str(sums.late_blocks), BROKEN if sums.late_blocks else "", justify="right"),
        Text(duration(stall_ns) if (stall_ns := sums.longest_stall.ToNanoseconds()) else "-", justify="right"),
        Text(str(sums.faults.major), justify="right"),
        Text(str(sums.faults.minor), justify="right"),
        Text(f"{pages.useful}/{pages.late}/{pages.wasted}", justify="right"),
    ]


def _fill(table: DataTable[Any], rows: list[tuple[str, list[Any]]]) -> None:
    """Show `rows`, by their keys: what is there already is changed, so that cursor and scrolling stay."""
    wanted = dict(rows)
    for key in [key for key in table.rows if key.value not in wanted]:
        table.remove_row(key)
    columns = list(table.columns)
    present = {key.value for key in table.rows}
    for name, cells in rows:
        if name not in present:
            table.add_row(*cells, key=name)
            continue
        for column, cell in zip(columns, cells, strict=True):
            table.update_cell(name, column, cell, update_width=True)
