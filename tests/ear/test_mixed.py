"""Hearing cues in one stream ends when nothing more can be hoped for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np

from samplecache.lab.ear.accounting import Period
from samplecache.lab.ear.card import Card
from samplecache.lab.ear.contender import Cue
from samplecache.lab.ear.heard import PERIOD_FRAMES
from samplecache.lab.ear.performing import Mixed
from samplecache.lab.ear.unmixing import Pcm

SOUND = np.random.default_rng(1).integers(-500, 500, (4 * PERIOD_FRAMES, 2), np.int16)
LONG = 200


@dataclass
class Silence:
    """A card and its recording, of a server that writes whatever it is told to."""

    periods: list[Period] = field(default_factory=list)
    pcm: Pcm = field(default_factory=lambda: np.zeros((LONG * PERIOD_FRAMES, 2), np.int16))

    def plug(self, fd: int, frames: int | None) -> Silence:
        return self

    def go_on(self) -> None:
        self.periods.append(Period(len(self.periods) * 10_000_000, PERIOD_FRAMES, 0))


def listen(card: Silence) -> tuple[bool, list[int]]:
    """Whether all was ever heard, and how hearing got on."""
    mixed = Mixed(cast("Card", card), [Cue("sound", 0)], [SOUND], 0)
    mixed.asked(0, 0, None)
    complete, seen = False, []
    for _ in range(LONG):
        card.go_on()
        complete = mixed.complete() or complete
        seen.append(mixed.progress())
    return complete, seen


def test_silence_is_no_progress_once_all_could_have_been_heard() -> None:
    assert listen(Silence()) == (False, [1, 2, 3, *[4] * (LONG - 3)])


def test_what_is_heard_is_complete() -> None:
    card = Silence()
    card.pcm[50:][: len(SOUND)] = SOUND
    complete, seen = listen(card)
    assert complete
    assert seen[-1] == len(SOUND)
