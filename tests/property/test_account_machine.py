"""Accounts add up whatever happens to the pages, and agree with a model that keeps a word for each page."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from samplecache.cache.accounting.accounts import Account, PageOutcomes
from samplecache.kernel.port import Residency, Span, Tier

PAGES = 12
spans = st.tuples(st.integers(0, PAGES), st.integers(0, PAGES)).map(lambda ends: Span(min(ends), max(ends)))
tiers = st.binary(min_size=PAGES, max_size=PAGES).map(lambda raw: bytes(byte % 5 for byte in raw))
IN_CORE = {Tier.SWAP_CACHE, Tier.MAPPED, Tier.LOCKED}


class Accounts(RuleBasedStateMachine):
    """One session, and hints that it takes over: the model is what state each page is in, for whom."""

    @initialize()
    def begin(self) -> None:
        self.total = PageOutcomes()
        self.accounts = [Account("session", PAGES, self.total)]
        self.model: list[dict[int, str]] = [{}]
        self.expected = [PageOutcomes()]
        self.loose: Account | None = None
        self.loose_model: dict[int, str] = {}
        self.loose_expected = PageOutcomes()

    # --- the session, and all that it took over ---

    @rule(span=spans, where=tiers)
    def ask(self, span: Span, where: bytes) -> None:
        taken = set().union(*self.model)
        pages = [page for page in span if where[page] == Tier.SWAPPED and page not in taken]
        assert self.accounts[0].ask(self.accounts[0].not_asked(span, Residency(Span(0, PAGES), where))) == len(pages)
        self.model[0] |= dict.fromkeys(pages, "asked")
        self.expected[0].asked += len(pages)

    @rule(look=spans, where=tiers)
    def look(self, look: Span, where: bytes) -> None:
        gone = self.accounts[0].look(Residency(look, where[look.start : look.stop]))
        expected = 0
        for model, outcomes in zip(self.model, self.expected, strict=True):
            for page in [page for page in model if page in look]:
                if where[page] in IN_CORE:
                    model[page] = "arrived"
                elif where[page] == Tier.SWAPPED and model[page] == "arrived":
                    del model[page]
                    outcomes.wasted += 1
                    expected += 1
        assert gone == expected

    @rule(span=spans)
    def arrive(self, span: Span) -> None:
        self.accounts[0].arrive(span)
        for model in self.model:
            model |= {page: "arrived" for page in model if page in span}

    @rule(span=spans, where=tiers)
    def read(self, span: Span, where: bytes) -> None:
        self.accounts[0].read(span, lambda pages: all(where[page] in IN_CORE for page in pages))
        for model, outcomes in zip(self.model, self.expected, strict=True):
            for page in [page for page in model if page in span]:
                state = model.pop(page)
                if where[page] in IN_CORE:
                    outcomes.useful += 1
                elif state == "asked":
                    outcomes.late += 1
                else:
                    outcomes.wasted += 1

    @rule(span=spans)
    def give_up(self, span: Span) -> None:
        self.accounts[0].give_up(span)
        self._waste(lambda page: page in span)

    @rule(kept=st.lists(spans, max_size=3))
    def seek(self, kept: list[Span]) -> None:
        self.accounts[0].keep_only(kept)
        self._waste(lambda page: not any(page in span for span in kept))

    def _waste(self, condition: Callable[[int], bool]) -> None:
        for model, outcomes in zip(self.model, self.expected, strict=True):
            for page in [page for page in model if condition(page)]:
                del model[page]
                outcomes.wasted += 1

    # --- a hint, which may be taken over ---

    @rule(span=spans, where=tiers)
    def hint(self, span: Span, where: bytes) -> None:
        if self.loose is None:
            self.loose, self.loose_model, self.loose_expected = Account("hint", PAGES), {}, PageOutcomes()
        pages = [page for page in span if where[page] == Tier.SWAPPED and page not in self.loose_model]
        assert self.loose.ask(self.loose.not_asked(span, Residency(Span(0, PAGES), where))) == len(pages)
        self.loose_model |= dict.fromkeys(pages, "asked")
        self.loose_expected.asked += len(pages)

    @rule()
    def take_over(self) -> None:
        if self.loose is not None and len(self.accounts) < 4:
            self.accounts[0].take_over(self.loose)
            self.accounts.append(self.loose)
            self.model.append(self.loose_model)
            self.expected.append(self.loose_expected)
            self.loose = None

    @rule()
    def expire(self) -> None:
        if self.loose is not None:
            self.loose.close()
            assert self.loose.outcomes.outstanding == 0
            assert self.loose.outcomes.asked == self.loose_expected.asked
            self.loose = None

    # --- at all times ---

    @invariant()
    def accounts_agree_with_the_model(self) -> None:
        for account, model, expected in zip(self.accounts, self.model, self.expected, strict=True):
            assert account.outcomes == expected
            assert account.outcomes.outstanding == len(model)
        assert self.accounts[0].outstanding == sum(map(len, self.model)) == self.total.outstanding

    def teardown(self) -> None:
        for account in self.accounts[:1]:
            account.close()
        for account in self.accounts:
            assert account.outcomes.outstanding == 0


Accounts.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAccounts = Accounts.TestCase
