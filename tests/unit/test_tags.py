"""Samples are found by their tags."""

from __future__ import annotations

from cache_parts import MONO, PAGE_BYTES, PAGE_FRAMES, simulated_kernel

from samplecache.cache.samples.store import Store


def test_tags_are_found_by_as_long_as_a_sample_has_them() -> None:
    kernel = simulated_kernel()
    store = Store(kernel, 100 * PAGE_BYTES, max_samples=6)

    def publish(sample_id: str, *tags: str) -> None:
        region = kernel.map(PAGE_BYTES)
        store.publish(sample_id, region, MONO, PAGE_FRAMES, repr((sample_id, tags)).encode(), tags=tags, replace=True)

    def having(*tags: str) -> tuple[list[str], int]:
        samples, more = store.page("", 10, frozenset(tags))
        assert not more
        return [sample.sample_id for sample in samples], store.count(frozenset(tags))

    for name in "abc":
        publish(name, "all", name)
    store.update("a", tags=("all", "new"))
    publish("b", "new")
    assert having("all") == (["a", "c"], 2)
    assert having("new") == (["a", "b"], 2)
    assert having("all", "new") == (["a"], 1)
    assert having("b") == ([], 0)
    store.remove("a")
    assert having("all", "new") == ([], 0)
    assert having("new") == (["b"], 1)
