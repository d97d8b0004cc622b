"""Floor 6: the client. Plain threads and blocking calls; errors are :class:`ClientError`.

>>> with Client("unix:/run/samplecache.sock") as client:  # doctest: +SKIP
...     sample = client.put_file("kick.wav").sample
...     client.prefetch(sample.sample_id, deadline_ns=200_000_000).result()
"""

from samplecache.client.client import DEFAULT_TARGET, Client, cue
from samplecache.client.failure import ClientError
from samplecache.client.naming import sample_id_of
from samplecache.client.streams import EventStream, PlayEvent, PlayStream, PrefetchCall, PrefetchEvent

__all__ = [
    "DEFAULT_TARGET",
    "Client",
    "ClientError",
    "EventStream",
    "PlayEvent",
    "PlayStream",
    "PrefetchCall",
    "PrefetchEvent",
    "cue",
    "sample_id_of",
]
