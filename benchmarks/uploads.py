"""How fast uploads are, beside decoding the same files alone and only receiving them, in turn: many at a time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from operator import truediv
from pathlib import Path
from typing import Final

import grpc.aio
import numpy as np
import soundfile

from benchmarks.measuring import Figure
from benchmarks.serving import BARE, started
from samplecache.audio.decode import Decoder
from samplecache.clock import NS_PER_S
from samplecache.service.server import SERVICE
from samplecache.v1 import samplecache_pb2 as pb

AT_ONCE: Final = 4
"""Files under way, as many as are decoded at a time."""
REPETITIONS: Final = 3
LENGTHS_S: Final = {"0.5 s": (0.5, 64), "5 s": (5.0, 32), "60 s": (60.0, 6)}
"""How long files are, in seconds of 48 kHz stereo, and how many there are of each."""
CHUNK_BYTES: Final = 64 << 10
_RATE_HZ: Final = 48_000


def throughput(repetitions: int = REPETITIONS) -> list[Figure]:
    """Measure uploads of WAV and FLAC files of each length."""
    figures = []
    for container in ("WAV", "FLAC"):
        for name, (length_s, count) in LENGTHS_S.items():
            files = [_file(container, length_s, seed) for seed in range(count)]
            figures += asyncio.run(_compare(f"{container} of {name}", files, repetitions))
    return figures


async def upload_messages(start: pb.UploadStart, data: bytes) -> AsyncIterator[pb.PutSampleRequest]:
    """Yield the messages of one upload."""
    yield pb.PutSampleRequest(start=start)
    for offset in range(0, len(data), CHUNK_BYTES):
        chunk = pb.UploadChunk(write_offset=offset, data=data[offset : offset + CHUNK_BYTES])
        yield pb.PutSampleRequest(chunk=chunk)
    yield pb.PutSampleRequest(finish=pb.UploadFinish())


def _file(container: str, length_s: float, seed: int) -> bytes:
    """Return a file of two tones in noise: a codec has something to do, and no file is like another."""
    noise = np.random.default_rng(seed)
    time_s = np.arange(int(length_s * _RATE_HZ)) / _RATE_HZ
    tones = [0.3 * np.sin(2 * np.pi * pitch_hz * time_s) for pitch_hz in noise.uniform(80, 4000, 2)]
    frames = np.stack(tones, axis=1) + noise.normal(0, 0.03, (len(time_s), 2))
    file = io.BytesIO()
    soundfile.write(file, frames, _RATE_HZ, format=container, subtype="PCM_16")
    return file.getvalue()


async def _compare(name: str, files: list[bytes], repetitions: int) -> list[Figure]:
    """Decode files alone, have them received only, and upload them, over and over; return rates and how they compare.

    All share the CPUs with the client, which has its messages ready. Nobody decodes what has not been received, so the
    bound is what decoding and receiving take together.
    """
    alone, received, uploads = (_Rates(len(files)) for _ in range(3))
    messages = [await _messages(f"sample-{index}", file) for index, file in enumerate(files)]
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        decoder = stack.enter_context(Decoder())
        server, channel = await stack.enter_async_context(started(f"unix:{directory}/socket", "--budget", "2GiB"))
        _, bare_channel = await stack.enter_async_context(started(f"unix:{directory}/bare", server=BARE))
        await asyncio.to_thread(_decode_all, decoder, files)
        await _upload_all(channel, messages)
        for _ in range(repetitions):
            # This process decodes alone, through a decoder of its own; the servers are others.
            with alone.timed(os.getpid()):
                await asyncio.to_thread(_decode_all, decoder, files)
            with received.timed(os.getpid()):
                await _upload_all(bare_channel, messages)
            with uploads.timed(server.pid):
                await _upload_all(channel, messages)
    both = zip(alone.rates, received.rates, strict=True)
    bound = [1 / (1 / decoding + 1 / receiving) for decoding, receiving in both]
    return [
        Figure(f"{name}: decoded alone, in children", "files a second", tuple(alone.rates)),
        Figure(f"{name}: received alone, by a bare server", "files a second", tuple(received.rates)),
        Figure(f"{name}: uploaded", "files a second", tuple(uploads.rates)),
        Figure(f"{name}: uploaded, of decoded alone", "ratio", tuple(map(truediv, uploads.rates, alone.rates))),
        Figure(f"{name}: uploaded, of received, then decoded", "ratio", tuple(map(truediv, uploads.rates, bound))),
        Figure(f"{name}: decoded alone, CPU", "ms a file", tuple(alone.cpu_ms)),
        Figure(f"{name}: uploaded, CPU without the client's", "ms a file", tuple(uploads.cpu_ms)),
        Figure(f"{name}: decoding's part of that CPU", "ratio", tuple(map(truediv, alone.cpu_ms, uploads.cpu_ms))),
    ]


async def _messages(sample_id: str, file: bytes) -> list[bytes]:
    """Return the messages of one upload, serialised."""
    start = pb.UploadStart(
        sample_id=sample_id, total_bytes=len(file), sha256=hashlib.sha256(file).digest(), replace=True
    )
    return [message.SerializeToString() async for message in upload_messages(start, file)]


class _Rates:
    """How fast files went, and the CPU time of a process and of its decoder for each."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.rates: list[float] = []
        self.cpu_ms: list[float] = []

    @contextmanager
    def timed(self, pid: int) -> Iterator[None]:
        cpu_before_ms, began_ns = _cpu_ms(pid), time.perf_counter_ns()
        yield
        self.rates.append(self._count * NS_PER_S / (time.perf_counter_ns() - began_ns))
        self.cpu_ms.append((_cpu_ms(pid) - cpu_before_ms) / self._count)


def _cpu_ms(pid: int) -> float:
    """Return the CPU time of a process and of its children, the ended ones of theirs among them."""
    children = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    pids = [pid, *map(int, " ".join(children).split())]
    return sum(_own_cpu_ms(each, with_ended=each != pid) for each in pids)


def _own_cpu_ms(pid: int, *, with_ended: bool) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) * 1000 / os.sysconf("SC_CLK_TCK")


def _decode_all(decoder: Decoder, files: list[bytes]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda file: _decode(decoder, file), files))


def _decode(decoder: Decoder, file: bytes) -> None:
    """Decode a file as the service does, and drop its PCM."""
    fd = os.memfd_create("upload")
    try:
        os.write(fd, file)
        with decoder.open(fd) as decoding:
            buffer = bytearray(1 << 20)
            left = decoding.info.total_bytes
            while left:
                left -= os.readv(decoding.pcm_fd, [memoryview(buffer)[: min(left, len(buffer))]])
            decoding.finish()
    finally:
        os.close(fd)


async def _upload_all(channel: grpc.aio.Channel, uploads: list[list[bytes]]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    put = channel.stream_unary(f"/{SERVICE}/PutSample", None, pb.PutSampleResponse.FromString)

    async def upload(messages: list[bytes]) -> None:
        async with slots:
            await put(iter(messages))

    await asyncio.gather(*(upload(messages) for messages in uploads))
