"""The report in a real browser: it renders, says nothing on the console, asks for nothing, and can be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_scenario import SMALL, small

from samplecache.lab.contest.log import RunLog
from samplecache.lab.contest.page import page
from samplecache.lab.contest.playing import Plan, play_all, simulating
from samplecache.lab.contest.records import Case, Status
from samplecache.lab.contest.summary import tables
from samplecache.strategy.registry import StrategyRegistry

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LEAST_TEXT_PX = 9
"""Height of a line of the smallest text in a picture, as shown."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with glitches, a contender that could not play, and a name that wants to be markup."""
    directory = tmp_path_factory.mktemp("report")
    log = RunLog.open(
        directory, {"name": "<i>small</i>", "seed": 3, "text": SMALL + "# </pre><script>alert(1)</script>"}
    )
    play = small()
    cases = tuple(Case(kernel="simulated", device=device, memory="ample") for device in ("unthrottled", "60iops"))
    plan = Plan(play, cases, ("samplecache:none", "samplecache:touch"), 1, 3)
    play_all(plan, log, simulating(play, StrategyRegistry.discover()), lambda: pytest.fail("nothing is to be measured"))
    failed = log.runs[0].model_copy(
        update={"contender": "<script>alert(2)</script>", "status": Status.FAILED, "why": "<b>no</b>", "figures": None}
    )
    log.add(failed)
    file = directory / "report.html"
    file.write_text(page(log, tables(log), play.scenario), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1280, 390])
def test_it_renders_and_can_be_read(browser: Any, report: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report.as_uri())
    assert said == []
    assert asked == [report.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("h1").inner_text() == "Small & <b>bold</b>"
    assert tab.locator("section h2 .badge").all_inner_texts() == ["SIMULATED"] * 2
    assert tab.locator("table.matrix tbody tr").count() == 2
    assert tab.locator("section table:not(.matrix) tbody tr").count() == 2 * 2 * 2
    if width > 1000:
        assert tab.evaluate(
            "[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)"
        )
    assert "<script>alert(2)</script> is not in the table: <b>no</b>" in tab.locator("main").inner_text()
    pictures = tab.evaluate(
        """() => [...document.querySelectorAll('figure svg')].map(svg => {
            const box = svg.getBoundingClientRect();
            const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim());
            return {
                width: box.width, height: box.height, name: svg.getAttribute('aria-label'),
                texts: texts.length,
                least: Math.min(...texts.map(text => text.getBoundingClientRect().height)),
                outside: texts.filter(text => {
                    const own = text.getBoundingClientRect();
                    return own.left < box.left - 1 || own.right > box.right + 1;
                }).map(text => text.textContent),
            };
        })"""
    )
    # A machine: glitches, their lengths, first periods, and two timelines.
    assert len(pictures) == 2 * 5
    for picture in pictures:
        assert picture["width"] > 300
        assert picture["height"] > 80
        assert picture["texts"] > 3
        assert picture["name"]
        assert picture["least"] >= LEAST_TEXT_PX, picture
        assert picture["outside"] == [], picture
    tab.close()
