"""README, CHANGELOG and CONTRIBUTING: what they show works."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from tree import ROOT

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.cache import CacheSettings, Declaration, SampleCache
from samplecache.cli.app import app
from samplecache.clock import NS_PER_S, MonotonicClock
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.service.config import DEFAULT_LISTEN, ServerConfig
from samplecache.service.server import Server
from samplecache.simulation.options import SimulationOptions
from samplecache.strategy.registry import StrategyRegistry

DOCUMENTS = [ROOT / file for file in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")]
MONO = AudioFormat(8_000, 1, Encoding.S16)
PCM = bytes(range(256)) * 256


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def shell_lines(document: Path) -> list[list[str]]:
    """The words of every command shown, without comments."""
    lines = "\n".join(blocks(document, "sh") + blocks(document, "")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(("make ", "samplecache "))]


def run(source: str, title: str) -> dict[str, Any]:
    """The names that a shown piece of Python defines."""
    names: dict[str, Any] = {"__name__": title}
    exec(compile(source, title, "exec"), names)  # noqa: S102 -- our own documentation
    return names


# --- commands ---


def commands_in(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """All commands with their names, those of groups too: ``lab compare``."""
    for name, command in getattr(group, "commands", {}).items():
        yield before + name, command
        yield from commands_in(command, f"{before}{name} ")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_shown_exist(document: Path) -> None:
    shown = {words[1] for words in shell_lines(document) if words[0] == "make"}
    shown |= set(re.findall(r"`make ([a-z]+)[ `]", document.read_text()))
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shown <= set(phony.split())


def test_commands_shown_exist_with_their_options() -> None:
    commands = dict(commands_in(typer.main.get_command(app)))
    shown = [words[1:] for words in shell_lines(ROOT / "README.md") if words[0] == "samplecache"]
    assert len(shown) >= 10
    for words in shown:
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands else words[0]
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, name


def test_options_named_in_the_text_exist() -> None:
    commands = dict(commands_in(typer.main.get_command(app)))
    known = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    text = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if "pip install" not in line)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_shown_exist(document: Path) -> None:
    for module in re.findall(r"python3? -m (samplecache[\w.]*)", document.read_text()):
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]*)", document.read_text()):
        assert (ROOT / target).exists(), target


# --- python ---


def test_the_strategy_shown_works_on_the_simulated_kernel() -> None:
    source = next(block for block in blocks(ROOT / "README.md", "python") if "hookimpl" in block)
    plugin = ModuleType("shown")
    vars(plugin).update(run(source, "README.md"))
    registry = StrategyRegistry.discover()
    known = set(registry.names)
    registry.register(plugin, "README.md")
    assert registry.problems == []
    (strategy,) = set(registry.names) - known
    kernel = SimulatedKernel(
        SimulationOptions.for_device("nvme-p3700", memory_bytes=1 << 24, swap_bytes=1 << 26), MonotonicClock()
    )
    with SampleCache(kernel, CacheSettings(), registry) as cache:
        upload = cache.open_upload(declared())
        upload.append(0, PCM)
        cache.finish_upload(upload)
        cache.evict("shown", NS_PER_S)
        prefetch = cache.prefetch("shown", strategy=strategy)
        assert prefetch.wait(20)
        assert (prefetch.progress.pages_needed, prefetch.progress.pages_in, prefetch.notes) == (16, 16, [])


def declared() -> Declaration:
    return Declaration("shown", len(PCM), hashlib.sha256(PCM).digest(), MONO)


async def test_the_client_shown_plays_a_sample(tmp_path: Path) -> None:
    source = next(block for block in blocks(ROOT / "README.md", "python") if "Client" in block)
    assert DEFAULT_LISTEN in source
    address = f"unix:{tmp_path}/shown.sock"
    play = run(source.replace(DEFAULT_LISTEN, address), "README.md")["play"]
    server = Server(ServerConfig.load(listen=(address,), kernel="simulated", device="nvme-p3700", grace_s=0.0))
    await server.start()
    try:
        upload = server.cache.open_upload(declared())
        upload.append(0, PCM)
        server.cache.finish_upload(upload)
        assert await asyncio.wait_for(asyncio.to_thread(play, "shown"), 30) == PCM
    finally:
        await server.stop()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_shown_compiles(document: Path) -> None:
    for source in blocks(document, "python"):
        compile(source, document.name, "exec")


# --- changelog ---


def test_the_changelog_keeps_its_shape() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "keepachangelog.com" in text
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version), version
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        groups = re.split(r"^### ", section, flags=re.MULTILINE)[1:]
        titles = [group.splitlines()[0] for group in groups]
        assert len(titles) == len(set(titles))
        assert set(titles) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        for group in groups:
            assert re.search(r"^- \S", group, re.MULTILINE), f"nothing stands under {group.splitlines()[0]}"
    assert not re.search(r"#\d+|\bissues?\b|\bpull request", text)


def test_the_configuration_file_shown_lists_every_setting_with_its_default() -> None:
    shown = ROOT / "docs" / "samplecache.toml"
    names = {line.lstrip("# ").partition(" =")[0] for line in shown.read_text().splitlines() if " =" in line}

    assert names == set(ServerConfig.model_fields)
    assert ServerConfig.load(shown) == ServerConfig.load()
