"""Programs are written as text that reads back as the same program."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from random_programs import programs

from samplecache.lab.tracing.program import Mode, Program
from samplecache.lab.tracing.reading import parse
from samplecache.lab.tracing.writing import text

modes = st.lists(st.sampled_from(Mode), min_size=1, unique=True).map(tuple)
page_clusters = st.lists(st.integers(0, 31), min_size=1, max_size=4, unique=True).map(tuple)


@given(programs(), st.text(min_size=1), st.text(), modes, page_clusters)
def test_any_program_reads_back_as_itself(
    program: Program, title: str, about: str, modes: tuple[Mode, ...], page_clusters: tuple[int, ...]
) -> None:
    whole = Program(
        title=title,
        about=about,
        regions=program.regions,
        steps=program.steps,
        modes=modes,
        page_clusters=page_clusters,
    )
    assert parse(text(whole), "whole.toml") == whole
