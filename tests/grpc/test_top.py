"""``samplecache top`` before a server in the test's own process, and the sessions that it asks for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.text import Text
from served import FAST, RATE_HZ, Playing, Serve, pcm, until
from textual.widgets import DataTable, Static

from samplecache.cli.top.app import SESSION_COLUMNS, Top
from samplecache.cli.top.rates import Looks, bar, shortened
from samplecache.client import Client
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Tier
from samplecache.v1 import samplecache_pb2 as pb

SECOND = pcm(RATE_HZ)
SLOW = {**FAST, "device": "hdd-laptop-2008"}
INTERVAL_NS = NS_PER_S // 20


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        client.close()


async def test_sessions_are_listed_as_they_play(serve: Serve) -> None:
    served = await serve(**SLOW)
    await served.put_cold("pad", SECOND)
    empty = await served.stub.ListSessions(pb.ListSessionsRequest())
    assert list(empty.sessions) == []
    first, second = (Playing(served, "pad", strategy=name, loop=True) for name in ("none", "touch"))
    for playing in (first, second):
        await playing.begin()
        await playing.until("block")
    listed = (await served.stub.ListSessions(pb.ListSessionsRequest(with_residency=True))).sessions
    assert [info.binding.strategy for info in listed] == ["none", "touch"]
    assert [info.session_id for info in listed] == [one.of("started")[0].session_id for one in (first, second)]
    assert {info.sample.sample_id for info in listed} == {"pad"}
    assert all(0 < info.frame <= RATE_HZ and info.stats.blocks >= 1 for info in listed)
    assert len(listed[0].residency.map) == -(-len(SECOND) // 4096)
    assert listed[0].stats.faults.major > 0
    plain = (await served.stub.ListSessions(pb.ListSessionsRequest())).sessions
    assert not plain[0].HasField("residency")
    await first.send(stop={})
    await first.finish()
    await until(lambda: served.cache.session_count == 1)  # a session goes when nobody works on it any more
    assert len((await served.stub.ListSessions(pb.ListSessionsRequest())).sessions) == 1


async def test_the_screen_shows_who_plays_and_what_it_costs(serve: Serve, clients: list[Client]) -> None:
    served = await serve(**SLOW)
    await served.put_cold("pad", SECOND)
    clients.append(Client(served.address))
    app = Top(clients[0], served.address, INTERVAL_NS)
    async with app.run_test(size=(150, 30)) as pilot:
        table = app.query_one("#sessions", DataTable)
        await until(lambda: app.looks)
        assert table.row_count == 0
        playing = Playing(served, "pad", strategy="touch", loop=True)
        await playing.begin()
        await playing.until("block")
        await until(lambda: table.row_count == 1)
        shown = dict(zip(SESSION_COLUMNS, table.get_row_at(0), strict=True))
        assert (shown["sample"], shown["strategy"]) == ("pad", "touch")
        assert str(shown["at"]).endswith("of 1.0 s")
        strategies = app.query_one("#strategies", DataTable)
        assert strategies.get_row_at(0)[0] == "touch"
        assert "simulated kernel" in str(app.query_one("#facts", Static).render())
        assert "sessions 1" in str(app.query_one("#facts", Static).render())
        await pilot.press("p")
        assert "p goes on" in str(app.query_one("#heading", Static).render())
        held = app.looks
        await pilot.press("p")
        assert str(app.query_one("#heading", Static).render()) == "Sessions"
        await until(lambda: app.looks > held)
        await playing.send(stop={})
        await playing.finish()
        await until(lambda: table.row_count == 0)


async def test_a_server_that_is_gone_is_said_and_what_it_said_stays(serve: Serve, clients: list[Client]) -> None:
    served = await serve(**FAST)
    clients.append(Client(served.address))

    class Failing:
        gone = False

        def sessions(self, *, with_residency: bool = False) -> object:
            return (Client("127.0.0.1:1", timeout_ns=NS_PER_S // 5) if self.gone else clients[0]).sessions()

        def stats(self) -> pb.GetStatsResponse:
            return clients[0].stats()

    source = Failing()
    app = Top(source, served.address, INTERVAL_NS)
    async with app.run_test():
        await until(lambda: app.looks)
        source.gone = True
        trouble = app.query_one("#trouble", Static)
        await until(lambda: trouble.has_class("shown"))
        assert "does not answer" in str(trouble.render())
        assert "samples 0" in str(app.query_one("#facts", Static).render())
        source.gone = False
        await until(lambda: not trouble.has_class("shown"))


def session(frame: int, major: int, late: int, pages: bytes = b"\x01\x03") -> pb.SessionInfo:
    info = pb.SessionInfo(session_id="session-1", frame=frame)
    info.sample.sample_id = "pad"
    info.sample.frames = 96_000
    info.sample.format.rate_hz = 48_000
    info.stats.faults.major = major
    info.stats.late_blocks = late
    info.residency.map = pages
    return info


def test_rates_are_those_between_two_looks() -> None:
    looks = Looks()
    (first,) = looks.rows([session(48_000, 10, 2)], NS_PER_S)
    assert (first.major_rate, first.late_rate, first.late_blocks) == (0, 0, 2)
    assert (first.seconds, first.length_s, first.in_ram) == (1.0, 2.0, 0.5)
    (second,) = looks.rows([session(48_000, 16, 3)], 3 * NS_PER_S)
    assert (second.major_rate, second.late_rate) == (3.0, 0.5)
    assert looks.rows([], 4 * NS_PER_S) == []
    (again,) = looks.rows([session(0, 16, 3)], 5 * NS_PER_S)
    assert again.major_rate == 0


@pytest.mark.parametrize(
    ("name", "shown"),
    [("kick", "kick"), ("ambient.take-1", "ambient.take-1"), ("ambient-pad.take-12", "ambient…take-12")],
)
def test_long_names_keep_their_ends(name: str, shown: str) -> None:
    assert shortened(name, 15) == shown


def test_swap_rates_are_pages_a_second() -> None:
    looks = Looks()
    assert looks.swap_rates(pb.GetStatsResponse(swap_in_pages=100, swap_out_pages=7), 1.0) == (0, 0)
    assert looks.swap_rates(pb.GetStatsResponse(swap_in_pages=150, swap_out_pages=7), 0.5) == (100, 0)


def test_a_bar_shows_tiers_and_the_playhead() -> None:
    tiers = bytes([Tier.LOCKED] * 4 + [Tier.MAPPED] * 4 + [Tier.SWAP_CACHE] * 4 + [Tier.SWAPPED] * 4)
    shown = bar(tiers, 0.5, width=4)
    assert shown.plain == "██│░"
    assert [span.style for span in shown.spans if "red" in str(span.style)] == ["bold white on dark_red"]
    assert bar(b"\x03", 0.9).plain == "│"
    assert bar(b"", 0.5) == Text("")
