"""Sounds are found again in the sum of them, each at its frame, however the stream stalled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplecache.lab.ear.accounting import Period
from samplecache.lab.ear.heard import GlitchKind
from samplecache.lab.ear.unmixing import Asked, Pcm, unmix

PERIOD_NS = 10_000_000


def sound(frames: int, seed: int) -> Pcm:
    """A sound like no other."""
    return np.random.default_rng(seed).integers(-500, 500, (frames, 2), np.int16)


def mix(onsets: list[tuple[int, Pcm]], length: int) -> Pcm:
    """The sum of sounds, each from its onset."""
    total = np.zeros((length, 2), np.int16)
    for onset, pcm in onsets:
        part = pcm[: max(0, length - onset)]
        total[onset : onset + len(part)] += part
    return total


def in_time(length: int) -> list[Period]:
    """Periods of a stream that never stalled."""
    return [
        Period(number * PERIOD_NS, min(480, length - start), max(0, start + 480 - length))
        for number, start in enumerate(range(0, length, 480))
    ]


def test_overlapping_sounds_are_told_apart() -> None:
    sounds = [sound(3000, 1), sound(2000, 2), sound(100, 3)]
    stream = mix([(700, sounds[0]), (1500, sounds[1]), (1510, sounds[2])], 9600)
    found = unmix([Asked(0, pcm) for pcm in sounds], stream, in_time(9600), 0)
    assert [(one.first_ns, one.heard_frames, one.glitches) for one in found] == [
        (1 * PERIOD_NS, 3000, ()),
        (3 * PERIOD_NS, 2000, ()),
        (3 * PERIOD_NS, 100, ()),
    ]


def test_sounds_that_begin_in_one_frame_are_told_apart() -> None:
    sounds = [sound(600, seed) for seed in range(3)]
    stream = mix([(960, pcm) for pcm in sounds], 2400)
    assert [one.heard_frames for one in unmix([Asked(0, pcm) for pcm in sounds], stream, in_time(2400), 0)] == [600] * 3


def test_the_same_sound_twice_is_found_twice() -> None:
    pcm = sound(1000, 1)
    found = unmix([Asked(0, pcm), Asked(0, pcm)], mix([(0, pcm), (400, pcm)], 4800), in_time(4800), 0)
    assert [one.heard_frames for one in found] == [1000, 1000]


def test_silence_at_a_sounds_beginning_is_its_own() -> None:
    pcm = np.concatenate([np.zeros((50, 2), np.int16), sound(200, 1)])
    (found,) = unmix([Asked(0, pcm)], mix([(470, pcm)], 1440), in_time(1440), 0)
    assert (found.first_ns, found.heard_frames) == (0, 250)


def test_a_stall_is_a_gap_in_every_sound_that_sounds_and_no_other() -> None:
    sounds = [sound(2000, 1), sound(700, 2), sound(100, 3)]
    stream = mix([(0, sounds[0]), (500, sounds[1]), (2100, sounds[2])], 2400)
    periods = [
        Period(0, 480, 0),
        Period(PERIOD_NS, 320, 160),
        Period(2 * PERIOD_NS, 0, 480),
        *[Period((3 + number) * PERIOD_NS, 480, 0) for number in range(3)],
        Period(6 * PERIOD_NS, 160, 320),
    ]
    first, second, third = unmix([Asked(0, pcm) for pcm in sounds], stream, periods, 0)
    assert [(gap.kind, gap.at_frame, gap.length_frames) for gap in first.glitches] == [(GlitchKind.GAP, 800, 640)]
    assert [(gap.kind, gap.at_frame, gap.length_frames) for gap in second.glitches] == [(GlitchKind.GAP, 300, 640)]
    assert third.glitches == ()
    assert first.glitches[0].at_ns == PERIOD_NS + 320 * 1_000_000_000 // 48_000


def test_what_was_not_asked_for_is_foreign() -> None:
    pcm, noise = sound(2000, 1), sound(300, 9)
    (found,) = unmix([Asked(0, pcm)], mix([(0, pcm), (600, noise)], 4800), in_time(4800), 0)
    (glitch,) = found.glitches
    assert (glitch.kind, glitch.at_frame, glitch.length_frames) == (GlitchKind.FOREIGN, 600, 300)


SERVED = [(GlitchKind.GAP, 500, 480)]


@pytest.mark.parametrize("lost", [0, 480], ids=["goes on where it stopped", "goes on where it would be"])
@pytest.mark.parametrize("together", [1, 2], ids=["one sound", "all sounds"])
def test_silence_that_a_server_wrote_itself_is_a_gap(lost: int, together: int) -> None:
    sounds = [sound(3000, 1), sound(2500, 2)]
    onsets = [100, 400]
    broken = [(0, onsets[0] + 500), (1, onsets[0] + 500)][:together]
    pieces = []
    for number, (onset, pcm) in enumerate(zip(onsets, sounds, strict=True)):
        at = dict(broken).get(number, 9600) - onset
        pieces += [(onset, pcm[:at]), (onset + at + 480, pcm[at + lost :])] if at < len(pcm) else [(onset, pcm)]
    found = unmix([Asked(0, pcm) for pcm in sounds], mix(pieces, 9600), in_time(9600), 0)
    told = [[(glitch.kind, glitch.at_frame, glitch.length_frames) for glitch in one.glitches] for one in found]
    assert told[0] == SERVED
    assert told[1] == ([(GlitchKind.GAP, 200, 480)] if together == 2 else [])
    assert [one.heard_frames for one in found] == [3000, 2500]
    assert found[0].glitches[0].at_ns == PERIOD_NS + 120 * 1_000_000_000 // 48_000


@pytest.mark.parametrize(
    ("shift", "kind"), [(300, GlitchKind.JUMP), (-300, GlitchKind.REPEAT)], ids=["left out", "played twice"]
)
def test_frames_that_are_left_out_or_come_twice_are_told(shift: int, kind: GlitchKind) -> None:
    pcm, other = sound(3000, 1), sound(3000, 2)
    stream = mix([(0, pcm[:1000]), (1000, pcm[1000 + shift :]), (700, other)], 9600)
    first, second = unmix([Asked(0, pcm), Asked(0, other)], stream, in_time(9600), 0)
    assert [(glitch.kind, glitch.at_frame, glitch.length_frames) for glitch in first.glitches] == [(kind, 1000, 300)]
    assert (first.heard_frames, second.heard_frames, second.glitches) == (3000, 3000, ())


def test_a_sound_that_breaks_off_again_and_again_is_followed() -> None:
    pcm = sound(6000, 1)
    pieces = [(600 * n + 100 * n, pcm[600 * n : 600 * (n + 1)]) for n in range(10)]
    (found,) = unmix([Asked(0, pcm)], mix(pieces, 9600), in_time(9600), 0)
    assert [(glitch.at_frame, glitch.length_frames) for glitch in found.glitches] == [
        (600 * n, 100) for n in range(1, 10)
    ]
    assert found.heard_frames == 6000


def test_a_sound_that_does_not_go_on_was_not_heard_to_its_end() -> None:
    pcm = sound(3000, 1)
    (found,) = unmix([Asked(0, pcm)], mix([(0, pcm[:1000])], 9600), in_time(9600), 0)
    assert found.heard_frames == 1000


@pytest.mark.parametrize("asked_ns", [PERIOD_NS * 100])
def test_a_sound_is_not_heard_before_it_was_asked_for(asked_ns: int) -> None:
    pcm = sound(500, 1)
    (found,) = unmix([Asked(asked_ns, pcm)], mix([(0, pcm)], 960), in_time(960), 0)
    assert found.first_ns is None
    assert found.heard_frames == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 8000), st.integers(40, 3000)), min_size=1, max_size=6))
def test_any_mix_comes_apart(plan: list[tuple[int, int]]) -> None:
    plan.sort()
    # A beginning is told by 8 frames at least: no other may follow within them, unless in the very same one.
    plan = [one for n, one in enumerate(plan) if n == 0 or not 0 < one[0] - plan[n - 1][0] < 8][:4]
    sounds = [sound(frames, seed) for seed, (_, frames) in enumerate(plan)]
    stream = mix([(onset, pcm) for (onset, _), pcm in zip(plan, sounds, strict=True)], 12_000)
    found = unmix([Asked(0, pcm) for pcm in sounds], stream, in_time(12_000), 0)
    assert [one.heard_frames for one in found] == [frames for _, frames in plan]
    assert [one.first_ns for one in found] == [onset // 480 * PERIOD_NS for onset, _ in plan]
