"""Floor 4: samples, the store, prefetching, playback, and the façade over them."""

from samplecache.cache.cache import SampleCache
from samplecache.cache.play_options import PlayOptions
from samplecache.cache.samples.upload import Declaration
from samplecache.cache.session import Session
from samplecache.cache.settings import CacheSettings

__all__ = ["CacheSettings", "Declaration", "PlayOptions", "SampleCache", "Session"]
