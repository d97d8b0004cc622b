"""Programs on the simulated kernel: the published figures, what is recorded, and following another run."""

from __future__ import annotations

import dataclasses
import random

import pytest

from samplecache.clock import NS_PER_MS, VirtualClock
from samplecache.errors import UnavailableError
from samplecache.kernel.port import FaultCounts, Span
from samplecache.kernel.simulated import SimulatedKernel
from samplecache.lab.tracing import bench
from samplecache.lab.tracing.bench import Outcome, Run, simulate
from samplecache.lab.tracing.comparing import Verdict, compare, surprises
from samplecache.lab.tracing.program import Mode, Program, RegionPlan
from samplecache.lab.tracing.reading import library, load
from samplecache.lab.tracing.running import Observation, Recording, run
from samplecache.lab.tracing.setting import Setting, State, swap_bytes_for
from samplecache.lab.tracing.steps import (
    AnyStep,
    Content,
    Evict,
    Lock,
    Pageout,
    Populate,
    Sleep,
    Touch,
    TouchRandom,
    Unmap,
    Wait,
    Willneed,
    Write,
)
from samplecache.simulation.device import device_profile
from samplecache.simulation.options import SimulationOptions, SlotOrder
from samplecache.simulation.readahead import ClusterReadahead

N = 1024
SWAP_BYTES = 64 << 20
VMA, CLUSTER, ZRAM = Setting(Mode.VMA), Setting(Mode.CLUSTER), Setting(Mode.ZRAM)
BOOT = Setting(Mode.CLUSTER, state=State.BOOT)


def totals(name: str, setting: Setting) -> str:
    program = load(name)
    simulated = simulate(program, setting, swap_bytes_for(program))
    assert simulated.agrees
    return bench.totals(program.steps, simulated.simulated)


def kernel(**changes: object) -> SimulatedKernel:
    options = SimulationOptions.for_device("ssd-sata", memory_bytes=256 << 20, swap_bytes=SWAP_BYTES)
    return SimulatedKernel(dataclasses.replace(options, **changes), VirtualClock())  # type: ignore[arg-type]


def record(simulated: SimulatedKernel, *steps: AnyStep, content: Content = Content.NOISE) -> Recording:
    clock = simulated._clock
    return run(program(*steps, content=content), simulated, clock)


def program(*steps: AnyStep, content: Content = Content.NOISE) -> Program:
    return Program(title="test", regions=(RegionPlan(name="a", pages=N, content=content),), steps=steps)


class TestPublishedFigures:
    """Major/minor/pswpin/swap_ra of all steps but the evictions."""

    @pytest.mark.parametrize(
        ("name", "vma", "scattered", "boot"),
        [
            ("1", "130/894/1024/894", "131/893/1024/893", "129/895/1024/895"),
            ("4", "129/895/1024/895", "131/893/1024/893", "130/894/1024/894"),
            ("5", "384/128/769/385", "512/0/512/0", "128/384/1023/895"),
            ("6", "64/0/75/11", "64/0/64/0", "64/0/75/11"),
            ("8", "0/1024/1024/0", "0/1024/1024/0", "0/1024/1024/0"),
            ("9", "0/1024/1024/0", "0/1024/1024/0", "0/1024/1024/0"),
            ("10", "66/958/1024/446", "69/955/1024/443", "67/957/1024/445"),
            ("11", "0/0/0/0", "0/0/0/0", "0/0/0/0"),
            ("14", "0/1024/1024/894", "0/1024/1024/893", "0/1024/1024/895"),
            ("17", "0/1024/0/0", "0/1024/0/0", "0/1024/0/0"),
            ("19", "130/894/0/894", "131/893/0/893", "129/895/0/895"),
        ],
    )
    def test_with_windows_of_8(self, name: str, vma: str, scattered: str, boot: str) -> None:
        assert [totals(name, setting) for setting in (VMA, CLUSTER, BOOT)] == [vma, scattered, boot]

    @pytest.mark.parametrize(
        ("page_cluster", "vma", "boot"),
        [(0, 1024, 1024), (1, 512, 514), (2, 258, 257), (4, 67, 66), (5, 36, 35)],
    )
    def test_with_other_windows(self, page_cluster: int, vma: int, boot: int) -> None:
        settings = (Setting(Mode.VMA, page_cluster), Setting(Mode.CLUSTER, page_cluster, State.BOOT))
        assert [totals("3", setting).split("/")[0] for setting in settings] == [str(vma), str(boot)]

    def test_on_zram(self) -> None:
        assert [totals(name, ZRAM) for name in ("15", "16")] == ["1024/0/1024/0", "0/1024/1024/0"]

    @pytest.mark.parametrize("name", library())
    def test_every_trace_runs_everywhere(self, name: str) -> None:
        for setting in (VMA, CLUSTER, BOOT, ZRAM):
            totals(name, setting)


class TestObserving:
    def test_each_thread_has_faults_of_its_own(self) -> None:
        half = N // 2
        evict, first, second = record(
            kernel(), Evict(thread="a"), Touch(thread="a", span=Span(0, half)), Touch(thread="b", span=Span(half, N))
        )
        assert evict.faults == FaultCounts(minor=N, major=0)
        assert (first.faults.major + first.faults.minor, second.faults.major + second.faults.minor) == (half, half)

    def test_what_is_left_where(self) -> None:
        pageout, evict, willneed, touch = record(kernel(), Pageout(), Evict(), Willneed(span=Span(0, 8)), Touch())
        assert [sum(each.in_core) for each in (pageout, evict, willneed, touch)] == [N, 0, 8, N]
        assert [sum(each.present) for each in (pageout, evict, willneed, touch)] == [0, 0, 0, N]
        assert [sum(each.swapped) for each in (pageout, evict, willneed, touch)] == [N, N, N, 0]
        assert pageout.slots == evict.slots == tuple(range(1, N + 1))
        assert set(touch.slots) == {0}

    def test_what_is_in_flight_counts_as_out_unless_the_step_settles(self) -> None:
        for settle, expected in ((True, N), (False, 0)):
            _, willneed = record(kernel(), Evict(), Willneed(settle=settle))
            assert sum(willneed.in_core) == expected

    def test_locks_and_errors(self) -> None:
        lock, pageout = record(kernel(), Lock(span=Span(4, 8)), Pageout(errno="EINVAL"))
        assert (lock.locked_bytes, lock.errno) == (4 * 4096, "")
        assert (pageout.locked_bytes, pageout.errno) == (4 * 4096, "EINVAL")

    @pytest.mark.parametrize("step", [Willneed(), Populate(), Lock(), Pageout()], ids=lambda step: step.do)
    def test_a_hole_is_an_error_of_every_call(self, step: AnyStep) -> None:
        _, refused = record(kernel(), Unmap(span=Span(4, 6)), step)
        assert refused.errno == "ENOMEM"

    def test_time_is_the_kernels(self) -> None:
        assert [each.time_ns for each in record(kernel(), Sleep(ms=5), Willneed())] == [5 * NS_PER_MS, 0]

    def test_zeros_written_are_zeros(self) -> None:
        _, evict = record(kernel(), Write(content=Content.ZERO), Evict())
        assert (evict.swap.swpout_zero, evict.swap.pswpout) == (N, 0)

    def test_pages_never_written_stay_so(self) -> None:
        (evict,) = record(kernel(), Evict(), content=Content.UNTOUCHED)
        assert (sum(evict.present), sum(evict.swapped), evict.evicted) == (0, 0, ())

    def test_waiting_in_vain_is_told(self) -> None:
        _, wait = record(kernel(), Evict(), Wait(timeout_ms=3))
        assert (wait.errno, wait.time_ns) == ("ETIMEDOUT", 3 * NS_PER_MS)

    def test_what_cannot_be_evicted_ends_the_run(self) -> None:
        with pytest.raises(UnavailableError, match="stay in RAM"):
            record(kernel(swap_slots=N - 1), Evict())

    def test_nothing_stays_mapped(self) -> None:
        for steps in ((Evict(), Touch()), (Evict(), Unmap(span=Span(3, 5)))):
            simulated = kernel()
            record(simulated, *steps)
            assert (simulated.machine.used_pages, simulated.machine.free_slots) == (0, SWAP_BYTES // 4096)

    def test_the_same_program_gives_the_same_recording(self) -> None:
        steps = (Evict(shuffle_seed=1), TouchRandom(seed=2, count=100), Populate(), Evict())
        assert record(kernel(), *steps) == record(kernel(), *steps)


class TestFollowing:
    def follow(self, model: Recording, *steps: AnyStep, **changes: object) -> Recording:
        simulated = kernel(**changes)
        return run(program(*steps), simulated, simulated._clock, following=model, plan_slots=simulated.plan_slots)

    def test_pages_get_the_slots_that_they_got_elsewhere(self) -> None:
        steps = (Evict(shuffle_seed=5), Touch())
        model = record(kernel(slot_order=SlotOrder.SHUFFLED, seed=3), *steps)
        followed = self.follow(model, *steps)
        assert followed[0].slots == model[0].slots
        assert followed[0].slots != record(kernel(), *steps)[0].slots
        assert followed == model

    def test_an_eviction_repeats_the_calls_that_it_took_elsewhere(self) -> None:
        """Pages that a CPU held back for a round, as none does here, cost faults and move the readahead state."""
        (easy,) = record(kernel(), Evict())
        kept = Span(7, 9)
        pageout, populate = easy.evicted[0], easy.evicted[1]
        around = tuple((push, part) for push, _ in pageout[:1] for part in (Span(0, 7), Span(9, N)))
        harder = dataclasses.replace(easy, evicted=(around, populate, *(((push, kept),) for push, _ in pageout[:1])))
        (followed,) = self.follow((harder,), Evict())
        assert followed.evicted[:3] == harder.evicted
        assert sum(followed.in_core) == 0
        assert followed.faults.minor > easy.faults.minor - len(kept)


class TestPreludes:
    @pytest.mark.parametrize("page_cluster", range(6))
    @pytest.mark.parametrize("before", range(3))
    def test_scattered_faults_leave_one_state_whatever_was_before(self, page_cluster: int, before: int) -> None:
        hits, window = ((4, 0), (63, 32), (0, 1))[before]
        readahead = self.after(Setting(Mode.CLUSTER, page_cluster), hits, window)
        assert (readahead.hits, readahead.window) == ((0, 1) if page_cluster else (hits, window))

    @pytest.mark.parametrize("page_cluster", range(1, 6))
    def test_a_sequel_leaves_hits_for_a_full_window(self, page_cluster: int) -> None:
        readahead = self.after(Setting(Mode.CLUSTER, page_cluster, State.BOOT), 0, 1)
        assert readahead.hits == min(3, 2**page_cluster - 1)
        assert readahead.window == min(8, 2**page_cluster)

    def after(self, setting: Setting, hits: int, window: int) -> ClusterReadahead:
        """The readahead state after the prelude of `setting`, on a machine that remembers `hits` and `window`."""
        options = SimulationOptions(
            device=device_profile("hdd-7200"),
            memory_pages=1 << 15,
            swap_slots=1 << 14,
            page_cluster=setting.page_cluster,
            cluster_hits=hits,
            cluster_window_pages=window,
        )
        simulated = SimulatedKernel(options, VirtualClock())
        assert setting.prelude is not None
        run(setting.prelude, simulated, simulated._clock)
        readahead = simulated.machine.readahead
        assert isinstance(readahead, ClusterReadahead)
        return readahead


class TestComparing:
    def changed(self, observation: Observation, **changes: int) -> Observation:
        """`observation` with other fault counts or swap traffic."""
        faults = {name: value for name, value in changes.items() if name in ("major", "minor")}
        swap = {name: value for name, value in changes.items() if name not in faults}
        return dataclasses.replace(
            observation,
            faults=dataclasses.replace(observation.faults, **faults),
            swap=dataclasses.replace(observation.swap, **swap),
        )

    def verdicts(self, step: AnyStep, **changes: int) -> dict[str, Verdict]:
        """What differs if the last step's figures are changed."""
        steps = (Evict(), step)
        recording = record(kernel(), *steps)
        other = (recording[0], self.changed(recording[1], **changes))
        compared = compare(program(*steps), recording, other)
        assert {each.verdict for each in compared[0]} == {Verdict.AGREE}
        return {each.column: each.verdict for each in compared[1] if each.verdict is not Verdict.AGREE}

    def test_ordered_steps_agree_exactly_or_not_at_all(self) -> None:
        assert self.verdicts(Touch()) == {}
        assert self.verdicts(Touch(), pswpin=N + 1) == {"pswpin": Verdict.DIFFER}
        assert self.verdicts(Touch(), major=131, minor=893) == {"major": Verdict.DIFFER, "minor": Verdict.DIFFER}

    def test_shuffled_steps_agree_within_two_percent(self) -> None:
        step = TouchRandom(seed=1)
        assert self.verdicts(step, pswpin=N - 20) == {}
        assert self.verdicts(step, pswpin=N - 21) == {"pswpin": Verdict.DIFFER}

    @pytest.mark.parametrize(
        ("step", "major", "verdict"),
        [
            (Populate(), 133, Verdict.TIMING),  # three more reads were waited for
            (Populate(), 129, Verdict.DIFFER),  # less than the misses
            (Lock(), 46, Verdict.TIMING),  # as many misses did not have to wait
            (Lock(), 131, Verdict.DIFFER),  # more than the misses
            (Touch(), 131, Verdict.DIFFER),
        ],
    )
    def test_who_waits_for_a_read_is_a_matter_of_time(self, step: AnyStep, major: int, verdict: Verdict) -> None:
        assert self.verdicts(step, major=major, minor=N - major) == {"major": verdict, "minor": verdict}

    def test_faults_are_split_otherwise_but_none_is_lost(self) -> None:
        assert set(self.verdicts(Populate(), major=133).values()) == {Verdict.DIFFER}

    @pytest.mark.parametrize(
        ("step", "major", "pgmajfault", "pswpin", "verdict"),
        [
            (Touch(), 130, 131, N, Verdict.OTHERS),
            (Touch(), 130, 129, N, Verdict.DIFFER),
            (Touch(), 131, 131, N, Verdict.DIFFER),
            (Populate(), 132, 131, N, Verdict.OTHERS),  # each miss of its own would have read a page more
            (Populate(), 132, 131, N + 1, Verdict.DIFFER),
            (Lock(), 0, 131, N, Verdict.OTHERS),
            (Lock(), 0, 129, N, Verdict.DIFFER),
        ],
    )
    def test_major_faults_beyond_the_threads_own_are_others(
        self, step: AnyStep, major: int, pgmajfault: int, pswpin: int, verdict: Verdict
    ) -> None:
        recording = record(kernel(), Evict(), step)
        changes = {"major": major, "minor": N - major, "pgmajfault": pgmajfault, "pswpin": pswpin}
        measured = (recording[0], self.changed(recording[1], **changes))
        compared = compare(program(Evict(), step), measured, recording)[1]
        assert {each.column: each.verdict for each in compared}["pgmajfault"] is verdict

    @pytest.mark.parametrize(
        ("step", "minor", "major", "verdict"),
        [
            (Willneed(), 2, 0, Verdict.INTERPRETER),
            (Willneed(), 2, 1, Verdict.DIFFER),
            (Wait(), 1, 0, Verdict.INTERPRETER),
            (Touch(), N + 1, 0, Verdict.DIFFER),
        ],
    )
    def test_minor_faults_where_nothing_is_mapped_are_the_interpreters(
        self, step: AnyStep, minor: int, major: int, verdict: Verdict
    ) -> None:
        steps = (Evict(), Willneed(), step)
        recording = record(kernel(), *steps)
        measured = (*recording[:2], self.changed(recording[2], minor=minor, major=major))
        compared = compare(program(*steps), measured, recording)[2]
        assert {each.column: each.verdict for each in compared}["minor"] is verdict

    def test_a_minor_fault_that_maps_a_page_is_the_steps_own(self) -> None:
        steps = (Evict(), Willneed(), Wait())
        recording = record(kernel(), *steps)
        mapped = dataclasses.replace(recording[2], present=b"\1" + recording[2].present[1:])
        compared = compare(program(*steps), (*recording[:2], self.changed(mapped, minor=1)), recording)[2]
        assert {each.column for each in compared if each.verdict is Verdict.DIFFER} == {"minor", "present"}

    def test_pages_have_to_agree_one_by_one(self) -> None:
        recording = record(kernel(), Willneed(), Pageout(span=Span(0, 8)))
        moved = dataclasses.replace(recording[1], swapped=recording[1].swapped[::-1])
        compared = compare(program(Willneed(), Pageout(span=Span(0, 8))), recording, (recording[0], moved))
        assert [each.column for each in compared[1] if each.verdict is Verdict.DIFFER] == ["swapped"]

    def test_an_unexpected_error_is_a_surprise(self) -> None:
        steps = (Unmap(span=Span(4, 6)), Willneed(), Willneed(errno="ENOMEM"), Willneed(span=Span(0, 4), errno="EBADF"))
        assert list(surprises(program(*steps), record(kernel(), *steps))) == [
            (1, "ended with ENOMEM, expected success"),
            (3, "ended with success, expected EBADF"),
        ]

    def test_most_runs_decide(self) -> None:
        steps = (Evict(), Touch())
        recording = record(kernel(), *steps)
        disturbed = (recording[0], self.changed(recording[1], pswpin=1025))
        runs = [Run(each, recording, compare(program(*steps), each, recording), []) for each in (disturbed, recording)]
        for chosen, agrees in (((0, 1, 1), True), ((0, 1), False), ((0,), False)):
            outcome = Outcome("test", program(*steps), VMA, tuple(runs[index] for index in chosen))
            assert outcome.agrees is agrees
            assert outcome.shown.agrees is agrees
            assert outcome.differences()[0] == "run 1, step 2 (touch): pswpin measured 1025, simulated 1024"


def test_random_orders_do_not_depend_on_the_global_generator() -> None:
    steps = (Evict(shuffle_seed=2), TouchRandom(seed=9))
    random.seed(1)
    first = record(kernel(), *steps)
    random.seed(2)
    assert record(kernel(), *steps) == first
