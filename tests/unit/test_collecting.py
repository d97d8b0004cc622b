"""What is there when a service begins to serve is not looked through for garbage again."""

from __future__ import annotations

import gc

from samplecache.service.collecting import keep_for_good


def test_what_is_there_is_kept_but_what_is_garbage_already() -> None:
    class Cycle:
        pass

    gc.collect()
    cycle = Cycle()
    cycle.itself = cycle  # type: ignore[attr-defined]
    kept = [Cycle()]
    del cycle
    try:
        keep_for_good()
        assert gc.get_freeze_count() > 0
        looked_through = gc.get_objects()
        assert not any(each is kept[0] for each in looked_through)
        gc.unfreeze()
        assert [each for each in gc.get_objects() if isinstance(each, Cycle)] == kept
    finally:
        gc.unfreeze()
