"""Trace files: what they become, and the one error, with file and line, of each mistake."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samplecache.errors import ConfigurationError, NotFoundError
from samplecache.kernel.port import Span
from samplecache.lab.tracing.mistakes import KINDS
from samplecache.lab.tracing.program import Mode, Program, ProgramError, RegionPlan
from samplecache.lab.tracing.reading import library, load, named, parse, read
from samplecache.lab.tracing.setting import Setting, swap_bytes_for
from samplecache.lab.tracing.steps import Content, Evict, Sleep, Touch, TouchRandom, Unmap, Willneed

GOOD = """\
# A comment, and a text with what looks like a table:
title = "good"
about = \"\"\"
[[step]]
do = "nothing"
\"\"\"

[[region]]
name = "sample"
pages = 8
content = "noise"

[[step]]
do = "evict"

[[step]]
thread = "player"
do = "touch"
span = [
  0,
  4,
]
"""
LAST_LINE = 22


def test_a_file_becomes_a_program() -> None:
    assert parse(GOOD, "good.toml") == Program(
        title="good",
        about='[[step]]\ndo = "nothing"\n',
        regions=(RegionPlan(name="sample", pages=8, content=Content.NOISE),),
        steps=(Evict(), Touch(thread="player", span=Span(0, 4))),
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        # steps
        (
            'do = "evict"',
            'do = "evoct"',
            14,
            "no step does \"evoct\". Did you mean 'evict'? Choose from write, ",
        ),
        ('do = "evict"', "", 13, "the step does not say what it does"),
        ('do = "evict"', 'do = "touch-random"', 13, "a touch-random step needs 'seed'. Add seed"),
        ('do = "evict"', 'do = "touch-stride"\nstride = 0', 15, "stride: 0 is less than 1. Give 1 at least"),
        ('do = "evict"', 'do = "sleep"\nms = "long"', 15, 'ms: "long" is no whole number'),
        (
            'do = "evict"',
            'do = "write"\ncontent = "untouched"',
            15,
            'content: "untouched" is nothing to write. ',
        ),
        ('do = "evict"', 'do = "mlock"', 14, "no step does \"mlock\". Did you mean 'lock'? "),
        ('do = "evict"', 'do = "MADV_WILLNEED"', 14, "Did you mean 'willneed'? "),
        ('do = "evict"', "do = 3", 14, "no step does 3. Choose from write"),
        ('do = "evict"', "do = {is = 3}", 14, 'no step does {"is": 3}'),
        # types: none is taken for another
        ("pages = 8", "pages = true", 10, "pages: true is no whole number. Give a whole number, without quotes"),
        ("pages = 8", "pages = 8.0", 10, "pages: 8.0 is no whole number"),
        ("pages = 8", 'pages = "8"', 10, 'pages: "8" is no whole number'),
        ("pages = 8", "pages = 2008-05-13", 10, 'pages: "2008-05-13" is no whole number'),
        ("pages = 8", "pages = nan", 10, "pages: NaN is no whole number"),
        ('name = "sample"', "name = 3", 9, "name: 3 is no text. Put a text in quotes"),
        ('do = "evict"', 'do = "evict"\nsettle = 0', 15, "settle: 0 is neither true nor false"),
        ('do = "evict"', 'do = "evict"\nsettle = "no"', 15, 'settle: "no" is neither true nor false'),
        ('do = "evict"', 'do = "sleep"\nms = true', 15, "ms: true is no whole number"),
        ('do = "evict"', 'do = "evict"\nshuffle_seed = 1.0', 15, "shuffle_seed: 1.0 is no whole number"),
        ('title = "good"', 'title = "good"\nmodes = "vma"', 3, 'modes: "vma" is no array. Put values into brackets'),
        ('title = "good"', 'title = "good"\npage_clusters = 3', 3, "page_clusters: 3 is no array"),
        ('title = "good"', 'title = "good"\npage_clusters = [true]', 3, "page_clusters: true is no whole number"),
        ('"player"', "1", 17, "thread: 1 is no text"),
        ('"player"', '""', 17, 'thread: "" is empty. Give it a name'),
        ('"player"', f'"{"x" * 65}"', 17, " is longer than 64 characters"),
        # options that contradict the step
        ('do = "evict"', 'do = "touch"\nerrno = "ENOMEM"', 15, "touch ends with no error. Leave the errno out"),
        ('do = "evict"', 'do = "sleep"\nms = 1\nerrno = "ENOMEM"', 16, "sleep ends with no error"),
        (
            'do = "evict"',
            'do = "touch"\nseed = 3',
            15,
            "a touch step has no option 'seed'. Leave it out; touch-random ",
        ),
        ('do = "evict"', 'do = "sleep"\nms = 1\nspan = [0, 1]', 16, "a sleep step has no option 'span'"),
        (
            'do = "evict"',
            'do = "evict"\nsettel = false',
            15,
            "an evict step has no option 'settel'. Did you mean ",
        ),
        # spans
        ("  4,", "  9,", 19, "pages [0, 9) reach past region 'sample' of 8 pages. End the span at 8 at the latest"),
        ("  4,", "", 19, "span: [0] is no span. Give [START, STOP], two whole numbers of pages, "),
        ("  0,", "  5,", 19, "span: [5, 4] is no span"),
        ("  0,", "  4,", 19, "span: [4, 4] is no span"),
        ("  0,", "  -1,", 19, "span: [-1, 4] is no span"),
        ("  0,", "  true,", 19, "span: [true, 4] is no span"),
        ("  0,", "  0.0,", 19, "span: [0.0, 4] is no span"),
        ("  0,", "  0, 2,", 19, "span: [0, 2, 4] is no span"),
        # what steps name
        (
            '"player"',
            '"player"\nregion = "samples"',
            18,
            "no region is called 'samples'. Did you mean 'sample'? ",
        ),
        ('do = "evict"', 'do = "lock"\nerrno = "EFOO"', 15, "no error is called 'EFOO'"),
        ('do = "evict"', 'do = "touch-random"\nseed = 1\ncount = 9', 16, "9 different pages cannot be drawn from 8"),
        ('do = "evict"', 'do = "unmap"\nspan = [2, 3]', 20, "page 2 of region 'sample' is unmapped by then"),
        # regions
        ("pages = 8", "pages = 0", 10, "pages: 0 is less than 1. Give 1 at least"),
        ("pages = 8", "", 8, "a region needs 'pages'. Add pages"),
        ("pages = 8", "pages = 8\nsize = 9", 11, "a region has no option 'size'"),
        ('"noise"', '"noises"', 11, "content: \"noises\" is unknown. Did you mean 'noise'? Choose from noise, zero"),
        ('"noise"', '"noise"\n[[region]]\nname = "sample"\npages = 1', 13, "two regions are called 'sample'"),
        ('"noise"', '"noise"\n[[region]]\nname = "b"\npages = 1', 16, "the step does not say which region it is about"),
        # the rest
        ('title = "good"', "", 1, "a trace needs 'title'. Add title"),
        ('title = "good"', 'title = "good"\nmode = "vma"', 3, "a trace has no option 'mode'. Did you mean "),
        (
            'title = "good"',
            'title = "good"\nmodes = ["tape"]',
            3,
            'modes: "tape" is unknown. Choose from vma, ',
        ),
        (
            'title = "good"',
            'title = "good"\npage_clusters = [32]',
            3,
            "page_clusters: 32 is more than 31. Give 31",
        ),
        ('title = "good"', 'title = "good"\nmodes = ["vma", "vma"]', 3, "modes names one twice"),
        ('title = "good"', 'title = "good"\nmodes = []', 3, "modes: [] is empty. Name one at least"),
        ("[[region]]", "[[regions]]", 8, "no option is called 'regions'. Write [[region]] tables"),
        ("[[region]]", "[region]", 8, "[region] is one table. Write [[region]], in double brackets"),
        ("pages = 8", "pages = ", 10, "this is not TOML: Invalid value"),
        ("  4,\n]", "  4,", 21, "this is not TOML: "),
        ("[[step]]\nthread", "[[step]\nthread", 16, "this is not TOML: "),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, line: int, what: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigurationError) as caught:
        parse(GOOD.replace(old, new), "bad.toml")
    assert caught.value.message.startswith(f"bad.toml:{line}: ")
    assert what in str(caught.value)
    assert caught.value.details == {"file": "bad.toml", "line": str(line)}
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[[step]]\ndo = "touch"\n', 1, "the trace has no region. Write a [[region]] table"),
        ('[[region]]\nname = "a"\npages = 1\n', 1, "the trace has no step. Write a [[step]] table"),
        ("region = []\nstep = []\n", 2, "the trace has no region"),
        ('region = ["a"]\nstep = []\n', 2, "a region is no table. Write its options below [[region]]"),
        ('[[region]]\nname = "a"\npages = 1\n[step]\ndo = "touch"\n', 5, "[step] is one table. Write [[step]], in "),
        (
            '[[region]]\nname = "a"\npages = 1\n' + '[[step]]\ndo = "touch"\n' * 10_001,
            5,
            "has more than 10000 entries. Leave some out",
        ),
    ],
)
def test_tables_that_lack_or_have_another_form_are_told(text: str, line: int, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f'title = "a"\n{text}', "bad.toml")
    assert caught.value.message.startswith(f"bad.toml:{line}: ")
    assert what in str(caught.value)


def test_a_mark_of_byte_order_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert read(path) == parse(GOOD, "good.toml")


def test_steps_written_inline_are_told_by_their_line_too() -> None:
    text = 'title = "inline"\nregion = [{name = "a", pages = 1}]\nstep = [{do = "evict"}, {do = "trouch"}]\n'
    with pytest.raises(ConfigurationError, match=r'^inline:3: no step does "trouch"'):
        parse(text, "inline")


@pytest.mark.parametrize(
    "about",
    [
        '"""\n[[step]]\nends in a quote""""',
        '"""\n[[step]]\n\\""" # \n[[step]]\n"""',
        "'''\n[[step]]\n\\'''''",
        '"# [[" # "[["',
        '\'["\' # it\'s """ open',
    ],
)
def test_what_looks_like_a_table_is_not_taken_for_one(about: str) -> None:
    line = 3 + about.count("\n")
    text = f'title = "a"\nabout = {about}\n[[region]]\nname = "a"\npages = 1\n[[step]]\nmodes = [ # ]\n[1]]\ndo = "x"\n'
    with pytest.raises(ConfigurationError, match=rf'^looks:{line + 6}: no step does "x"'):
        parse(text, "looks")


def test_a_mistake_is_found_without_reading_the_file_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read_before: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        read_before.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    text = 'title = "long"\n[[region]]\nname = "a"\npages = 1\n' + '[[step]]\ndo = "touch"\n' * 100
    with pytest.raises(ConfigurationError, match=r'^long:206: no step does "trouch"'):
        parse(text + '[[step]]\ndo = "trouch"\n', "long")
    assert len(read_before) == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [("[" * 20_000 + "]" * 20_000, "it is nested too deeply"), ("9" * 5000, "exceeds the limit")],
    ids=["deep", "long"],
)
def test_what_python_cannot_read_is_told(value: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^huge: this cannot be read as TOML: {why}") as caught:
        parse(f"title = {value}\n", "huge")
    assert caught.value.details == {"file": "huge"}


@pytest.mark.parametrize(
    ("pages", "steps", "line", "what"),
    [
        ([262144, 1], 1, 2, "the regions have 262145 pages. Use at most 262144"),
        ([262144], 65, 5, "65 steps on 262144 pages are too much to record. Use at most 64 steps, or fewer pages"),
    ],
)
def test_a_file_too_large_to_run_is_told(pages: list[int], steps: int, line: int, what: str) -> None:
    regions = [f'[[region]]\nname = "{index}"\npages = {count}\n' for index, count in enumerate(pages)]
    text = 'title = "large"\n' + "".join(regions) + '[[step]]\ndo = "touch"\nregion = "0"\n' * steps
    with pytest.raises(ConfigurationError, match=rf"^large:{line}: {what}"):
        parse(text, "large")


def test_a_file_may_be_as_large_as_the_limits_whatever_runs_before_it() -> None:
    head = 'title = "prelude"\n[[region]]\nname = "scratch"\npages = 262144\n'
    program = parse(head + "".join(f'[[step]]\ndo = "touch"\nthread = "{number}"\n' for number in range(64)), "most")
    setting = Setting(Mode.CLUSTER)
    assert setting.prelude is not None
    whole = setting.whole(program)
    assert whole.pages == setting.prelude.pages + 262144
    assert len(whole.threads) == 65
    assert len({region.name for region in whole.regions}) == 2
    thread = '[[step]]\ndo = "touch"\nthread = "one more"\n'
    with pytest.raises(ConfigurationError, match="the steps name 65 threads"):
        parse(head + "".join(f'{thread[:-2]}{number}"\n' for number in range(65)), "more")


def test_a_step_s_pages_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(span: Span) -> Iterator[int]:
        raise AssertionError(f"each page of {span} was looked at")

    monkeypatch.setattr(Span, "__iter__", walk)
    regions = (RegionPlan(name="sample", pages=8),)
    Program(title="holes", regions=regions, steps=(Touch(), Unmap(span=Span(2, 4)), Touch(span=Span(4, 8))))
    with pytest.raises(ProgramError, match="Page 3 of region 'sample' is unmapped"):
        Program(title="holes", regions=regions, steps=(Unmap(span=Span(2, 4)), Touch(span=Span(3, 8))))


def test_a_file_without_steps_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^empty:1: a trace needs 'title'"):
        parse("", "empty")


def test_a_file_that_is_not_text_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'title = "a"\nabout = "\xe9"\n')
    with pytest.raises(ConfigurationError, match=r"latin\.toml:2: this is not UTF-8"):
        read(path)


def test_a_file_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigurationError, match="is longer than 1048576 bytes"):
        read(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.toml cannot be read: No such file"):
        load(str(tmp_path / "none.toml"))


def test_traces_are_found_by_number_and_by_the_start_of_their_name() -> None:
    assert named("5")[0] == named("05")[0] == named("05-str")[0] == "05-stride-2"
    with pytest.raises(NotFoundError, match="No traces are called '20'"):
        load("20")
    with pytest.raises(NotFoundError, match="9 traces are called '0"):
        load("0")


@pytest.mark.parametrize("name", library())
def test_every_shipped_trace_says_what_it_shows(name: str) -> None:
    program = load(name)
    assert program.about
    assert program.modes != ()


def test_the_published_traces_ship() -> None:
    assert [name.partition("-")[0] for name in library()] == [f"{number:02}" for number in range(1, 20)]
    assert load("15").modes == (Mode.ZRAM,)
    assert load("3").page_clusters == (1, 2, 4, 5)


def test_programs_made_by_hand_are_held_to_the_same_rules() -> None:
    region = RegionPlan(name="a", pages=4)
    with pytest.raises(ProgramError, match="reach past region 'a'") as caught:
        Program(title="by hand", regions=(region,), steps=(Evict(), Willneed(span=Span(0, 5))))
    assert caught.value.problem.where == ("step", 1, "span")


def test_a_prelude_has_memory_of_its_own() -> None:
    one, other = (
        Program(title=title, regions=(RegionPlan(name="a", pages=4),), steps=(Touch(),)) for title in ("one", "other")
    )
    both = other.after(one)
    assert [region.name for region in both.regions] == ["prelude/a", "own/a"]
    assert [step.region for step in both.steps] == ["prelude/a", "own/a"]


def test_pages_drawn_depend_on_the_seed_alone() -> None:
    span = Span(10, 30)
    drawn = TouchRandom(seed=3, count=5).order(span)
    assert drawn == TouchRandom(seed=3, count=5).order(span)
    assert len(set(drawn)) == 5
    assert set(drawn) <= set(span)
    assert sorted(TouchRandom(seed=4).order(span)) == list(span)


# --- the reference ---

REFERENCE = (Path(__file__).parents[2] / "docs" / "trace-files.md").read_text()


def test_the_example_of_the_reference_gives_what_it_says() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    program = parse(example, "half.toml")
    touch = Setting(Mode.VMA).simulate(program, swap_bytes=swap_bytes_for(program))[2]
    assert f"takes {touch.faults.major} major faults and {touch.faults.minor} minor ones" in REFERENCE


def test_the_reference_has_every_step_with_its_options() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*?) \| ", REFERENCE, re.MULTILINE))
    common = {field.name for field in dataclasses.fields(Sleep)} - {"ms"} | {"span"}
    for name, kind in KINDS.items():
        own = {field.name for field in dataclasses.fields(kind)} - common
        assert set(re.findall(r"`([a-z_]+)`:", rows[name])) == own, name
    documented = set(re.findall(r"^\| `(?:\[\[)?([a-z_]+)", REFERENCE, re.MULTILINE))
    assert {"title", "about", "modes", "page_clusters", "region", "step", "pages", "content"} <= documented
    assert common - {"span"} <= documented
    assert "`span = [START, STOP]`" in REFERENCE
