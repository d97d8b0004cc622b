"""Shows plugins what there is when a strategy is to be chosen."""

from __future__ import annotations

from samplecache.cache.accounting.figures import PageInMeter
from samplecache.cache.device.pressure_watch import PressureWatch
from samplecache.cache.samples.sample import Sample
from samplecache.kernel.ledger import LockLedger
from samplecache.kernel.port import Capabilities
from samplecache.strategy.registry import Binding, StrategyRegistry
from samplecache.strategy.view import ChoiceView


class Chooser:
    """Chooses a strategy for each session and prefetch. Any thread.

    Parameters
    ----------
    registry : StrategyRegistry
        The strategies, and the plugins that are asked.
    default : str
        The server's wish.
    capabilities : Capabilities
        What the kernel permits.
    ledger : LockLedger
        Knows how much may still be locked.
    meter : PageInMeter
        Knows what page-ins cost.
    pressure : PressureWatch
        Knows how much memory there is.
    page_bytes : int
        Size of a page, in bytes.
    """

    def __init__(
        self,
        registry: StrategyRegistry,
        default: str,
        capabilities: Capabilities,
        ledger: LockLedger,
        meter: PageInMeter,
        pressure: PressureWatch,
        page_bytes: int,
    ) -> None:
        self._registry = registry
        self._default = default
        self._capabilities = capabilities
        self._ledger = ledger
        self._meter = meter
        self._pressure = pressure
        self._page_bytes = page_bytes

    def choose(self, sample: Sample, wish: str, lead_ns: int | None) -> Binding:
        """Return what a session of `sample` gets that wishes for a strategy and is due in `lead_ns`.

        Blocks no longer than plugins do; where one is asked, for a millisecond or two more.

        Raises
        ------
        UnknownStrategyError
            The wish is for none that there is.
        """
        wishes = (wish, sample.strategy, self._default)
        return self._registry.bind(*wishes, self._capabilities, lambda: self._view(sample, lead_ns))

    def _view(self, sample: Sample, lead_ns: int | None) -> ChoiceView:
        return ChoiceView(
            sample.view(self._page_bytes),
            self._capabilities,
            self._ledger.budget_bytes - self._ledger.locked_bytes,
            self._meter.figures,
            self._registry.names,
            memory=self._pressure.memory(),
            lead_ns=lead_ns,
        )
