"""Whatever is taken and given back in whatever order, no page is taken twice and none is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from samplecache.kernel.packing import Packing

ARENA_PAGES = 16


class Arena:
    """Pages and who has taken them."""

    def __init__(self) -> None:
        self.taken: set[int] = set()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.integers(1, ARENA_PAGES)), max_size=60))
def test_packing(steps: list[tuple[bool, int, int]]) -> None:
    packing: Packing[Arena] = Packing(ARENA_PAGES)
    arenas: list[Arena] = []
    held: list[tuple[Arena, range]] = []
    for gives_back, choice, pages in steps:
        if gives_back and held:
            arena, run = held.pop(choice % len(held))
            arena.taken -= set(run)
            emptied = packing.give_back(arena, run.start, len(run))
            assert emptied == (not arena.taken)
            if emptied:
                arenas.remove(arena)
            continue
        taken = packing.take(pages)
        if taken is None:
            assert not any(room(arena, pages) for arena in arenas)  # an arena more only where none would do
            arenas.append(Arena())
            packing.add(arenas[-1])
            taken = packing.take(pages)
        assert taken is not None
        arena, first = taken
        run = range(first, first + pages)
        assert run.stop <= ARENA_PAGES
        assert not arena.taken & set(run)
        arena.taken |= set(run)
        held.append((arena, run))
    for arena in arenas:
        runs = [(run.start, len(run)) for other, run in held if other is arena]
        assert not packing.forget(arena, runs[1:])
        assert packing.forget(arena, runs)
    assert packing.take(1) is None


def room(arena: Arena, pages: int) -> bool:
    """Whether so many pages in a row are free."""
    return any(not arena.taken & set(range(start, start + pages)) for start in range(ARENA_PAGES - pages + 1))
