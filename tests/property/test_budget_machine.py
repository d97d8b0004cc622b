"""Whatever happens, no more is outstanding than the budget, and what is charged is what is outstanding."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from samplecache.cache.accounting.accounts import Account
from samplecache.cache.accounting.budget import Claim, PrefetchBudget
from samplecache.clock import NS_PER_S
from samplecache.kernel.port import Residency, Span, Tier
from samplecache.strategy import SampleView, Stretch

PAGE_BYTES = 4096
PAGES = 24
spans = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(lambda ends: Span(min(ends), max(ends)))
tiers = st.binary(min_size=PAGES, max_size=PAGES).map(lambda raw: bytes(1 + byte % 3 for byte in raw))


class Player:
    """A claim whose cursor moves; a page sounds for a second."""

    def __init__(self, budget: PrefetchBudget, loop: bool, due_ns: int) -> None:
        self.cursor, self.loop, self.due_ns = 0, loop, due_ns
        self.account = Account("mine", PAGES, on_closed=budget.leave, on_settled=budget.release)
        view = SampleView("pad", PAGES, PAGE_BYTES, PAGE_BYTES)
        self.claim = Claim(self.account, view, self.path, 10 * NS_PER_S, lambda span: None)
        budget.join(self.claim)

    def path(self) -> tuple[Stretch, ...]:
        rest = Stretch(Span(self.cursor, PAGES), self.due_ns)
        again = Stretch(Span(0, PAGES), self.due_ns + (PAGES - self.cursor) * NS_PER_S)
        return (rest, again) if self.loop else (rest,)

    def latest_ns(self, now_ns: int) -> int:
        """Return when the outstanding page is due that is due last; -1 if there is none. Page by page."""
        due = [-1]
        for page in range(PAGES):
            if self.account.last_outstanding(Span(page, page + 1)) is None:
                continue
            if page >= self.cursor:
                due.append(max(now_ns, self.due_ns) + (page - self.cursor) * NS_PER_S)
            elif self.loop:
                due.append(max(now_ns, self.due_ns + (PAGES - self.cursor) * NS_PER_S) + page * NS_PER_S)
            else:
                due.append(1 << 62)
        return max(due)


class Budgets(RuleBasedStateMachine):
    players = Bundle("players")

    @initialize(pages=st.integers(0, 2 * PAGES))
    def begin(self, pages: int) -> None:
        self.budget = PrefetchBudget(pages * PAGE_BYTES, PAGE_BYTES)
        self.now_ns = 0
        self.factor = 1.0
        self.alive: list[Player] = []

    @rule(target=players, loop=st.booleans(), due_s=st.integers(-3, 30))
    def join(self, loop: bool, due_s: int) -> Player:
        player = Player(self.budget, loop, self.now_ns + due_s * NS_PER_S)
        self.alive.append(player)
        return player

    @rule(player=consumes(players))
    def leave(self, player: Player) -> None:
        player.account.close()
        self.alive.remove(player)

    @rule(player=players, span=spans, where=tiers)
    def admit(self, player: Player, span: Span, where: bytes) -> None:
        residency = Residency(Span(0, PAGES), where)
        fresh = player.account.not_asked(span, residency)
        admission = self.budget.admit(player.account, span, residency, self.now_ns)
        assert admission.span.start == span.start
        assert admission.span.stop <= span.stop
        if admission.span != span:
            # Put off only if there is no room, and all that is outstanding is due no later.
            assert self.budget.used_bytes >= self.budget.effective_bytes
            assert fresh
            due_ns = player.claim.due_ns(span.start, player.path(), self.now_ns)
            others = [each.latest_ns(self.now_ns) for each in self.alive if each is not player]
            assert all(latest_ns <= due_ns for latest_ns in others)

    @rule(player=players, where=tiers)
    def read(self, player: Player, where: bytes) -> None:
        if player.cursor == PAGES:
            player.cursor = 0
        span = Span(player.cursor, player.cursor + 1)
        player.account.read(span, lambda pages: all(where[page] != Tier.SWAPPED for page in pages))
        player.cursor += 1
        player.due_ns += NS_PER_S

    @rule(player=players, where=tiers)
    def look(self, player: Player, where: bytes) -> None:
        player.account.look(Residency(Span(0, PAGES), where))

    @rule(player=players, span=spans)
    def seek(self, player: Player, span: Span) -> None:
        player.account.keep_only([span])

    @rule(factor=st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.0]))
    def scale(self, factor: float) -> None:
        self.factor = factor
        self.budget.scale(factor)

    @rule(seconds=st.integers(0, 5))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * NS_PER_S

    @invariant()
    def what_is_charged_is_what_is_outstanding(self) -> None:
        outstanding = sum(player.account.outcomes.outstanding for player in self.alive)
        assert self.budget.used_bytes == outstanding * PAGE_BYTES

    @invariant()
    def it_is_never_exceeded(self) -> None:
        assert 0 <= self.budget.used_bytes <= self.budget.peak_bytes <= self.budget.budget_bytes

    @invariant()
    def shares_come_to_the_budget_and_a_page_each_at_the_most(self) -> None:
        self.budget.scale(self.factor)  # have them worked out anew: they are kept for a while
        total = 0
        for player in self.alive:
            share_bytes = self.budget.share_bytes(player.account, self.now_ns)
            assert share_bytes is not None
            total += min(share_bytes, player.claim.wanted_bytes)
        assert total <= self.budget.effective_bytes + len(self.alive) * PAGE_BYTES


Budgets.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestBudgets = Budgets.TestCase
