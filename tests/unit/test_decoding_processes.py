"""The decoder process and its children: limits, deaths, and what is left behind."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audio_files import decode, memory_file, noise, read_pcm, written
from waiting import wait_until

from samplecache.audio.decode import DecodeLimits, Decoder
from samplecache.audio.wire import Done, Exit, Header, pack, unpack_answer
from samplecache.clock import NS_PER_MS, NS_PER_S
from samplecache.errors import AudioError, LimitError, UnavailableError

WAIT_S = 10.0


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def open_fds():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def short_wav():
    return written("WAV", "PCM_16", noise(1000))


@pytest.fixture(scope="module")
def long_wav():
    """Too long for the pipe, so that a child waits until its PCM is read."""
    return written("WAV", "PCM_16", noise(500_000))


@pytest.fixture
def decoder():
    with Decoder() as decoder:
        yield decoder


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_child_that_dies_is_the_files_fault_and_harms_nothing(decoder, short_wav, long_wav, killer):
    with memory_file(long_wav) as fd, decoder.open(fd) as decoding:
        os.read(decoding.pcm_fd, 4096)
        (child,) = children_of(decoder.pid)
        os.kill(child, killer)
        read_pcm(decoding)
        with pytest.raises(AudioError, match=f"ended by {killer.name}") as failure:
            decoding.finish()
    assert failure.value.reason_code == "DECODER_CRASHED"
    assert decode(decoder, short_wav)[0].frames == 1000


def test_closing_early_kills_and_reaps_the_child(decoder, long_wav):
    with memory_file(long_wav) as fd:
        decoding = decoder.open(fd)
        (child,) = children_of(decoder.pid)
        decoding.close()
        decoding.close()
    assert not is_alive(child)
    assert children_of(decoder.pid) == []


def test_a_decode_that_makes_no_progress_is_killed_in_time(short_wav, long_wav):
    with Decoder(DecodeLimits(wall_timeout_ns=300 * NS_PER_MS)) as decoder:
        with memory_file(long_wav) as fd, decoder.open(fd) as decoding:
            wait_until(lambda: children_of(decoder.pid) == [])
            assert len(read_pcm(decoding)) < decoding.info.total_bytes
            with pytest.raises(AudioError, match=r"more than 0\.3 s of wall time") as failure:
                decoding.finish()
        assert failure.value.reason_code == "DECODE_LIMIT_REACHED"
        assert decode(decoder, short_wav)[0].frames == 1000


def test_cpu_time_is_limited(short_wav):
    # Two million empty chunks: a second and more of walking from one to the next.
    endless = b"RIFF" + bytes(4) + b"WAVE" + b"junk\0\0\0\0" * 2_000_000
    with Decoder(DecodeLimits(max_cpu_ns=1)) as decoder:
        with pytest.raises(AudioError, match="of CPU time") as failure:
            decode(decoder, endless)
        assert failure.value.reason_code == "DECODE_LIMIT_REACHED"
        assert decode(decoder, short_wav)[0].frames == 1000


def limits_of(text):
    return {line[:25].strip(): tuple(line[25:].split()[:2]) for line in text.splitlines()[1:]}


def test_a_child_has_its_limits_and_nothing_open_but_its_own(decoder, long_wav):
    with memory_file(long_wav) as fd, decoder.open(fd), memory_file(long_wav) as other, decoder.open(other):
        for child in children_of(decoder.pid):
            limits = limits_of(Path(f"/proc/{child}/limits").read_text())
            assert limits["Max file size"] == limits["Max open files"] == limits["Max core file size"] == ("0", "0")
            assert limits["Max address space"] == (str(512 << 20),) * 2
            opened = {os.readlink(f"/proc/{child}/fd/{number}") for number in os.listdir(f"/proc/{child}/fd")}
            assert {target.split(":")[0] for target in opened} == {"/dev/null", "/memfd", "pipe", "socket"}


def test_memory_is_limited(long_wav):
    with Decoder(DecodeLimits(max_address_space_bytes=64 << 20)) as decoder:
        with pytest.raises(AudioError, match="address space") as failure:
            decode(decoder, long_wav)
        assert failure.value.reason_code == "DECODE_LIMIT_REACHED"


def test_the_decoder_process_restarts_after_its_death(decoder, short_wav):
    decoder.start()
    first = decoder.pid
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    assert decode(decoder, short_wav)[0].frames == 1000
    assert decoder.pid != first


def test_a_decode_outlives_the_decoder_process_if_it_is_read(decoder, long_wav):
    with memory_file(long_wav) as fd, decoder.open(fd) as decoding:
        os.kill(decoder.pid, signal.SIGKILL)
        assert len(read_pcm(decoding)) == decoding.info.total_bytes
        assert decoding.finish() == 500_000


def test_a_child_without_decoder_process_ends_with_its_reader(decoder, long_wav):
    with memory_file(long_wav) as fd, decoder.open(fd) as decoding:
        (child,) = children_of(decoder.pid)
        os.kill(decoder.pid, signal.SIGKILL)
        decoding.close()
        wait_until(lambda: not is_alive(child))


def test_losing_both_is_reported_as_the_services_fault(decoder, long_wav):
    with memory_file(long_wav) as fd, decoder.open(fd) as decoding:
        (child,) = children_of(decoder.pid)
        os.kill(decoder.pid, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        read_pcm(decoding)
        with pytest.raises(UnavailableError, match="Send the audio again") as failure:
            decoding.finish()
    assert failure.value.reason_code == "DECODER_LOST"


def test_a_decoder_that_cannot_start_says_so(decoder, monkeypatch, short_wav):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match="did not start") as failure:
        decode(decoder, short_wav)
    assert failure.value.reason_code == "DECODER_UNAVAILABLE"
    monkeypatch.undo()
    assert decode(decoder, short_wav)[0].frames == 1000


def test_ctrl_c_does_not_reach_the_decoder_process(decoder, short_wav):
    decoder.start()
    assert os.getsid(decoder.pid) != os.getsid(0)
    pid = decoder.pid
    os.kill(pid, signal.SIGINT)
    assert decode(decoder, short_wav)[0].frames == 1000
    assert decoder.pid == pid


def test_nothing_is_left_behind(short_wav, long_wav):
    before = open_fds()
    with Decoder() as decoder:
        for _ in range(20):
            decode(decoder, short_wav)
        with pytest.raises(AudioError):
            decode(decoder, b"not audio")
        with memory_file(long_wav) as fd:
            abandoned = decoder.open(fd)
            pids = [decoder.pid, *children_of(decoder.pid)]
            abandoned.close()
    assert not any(is_alive(pid) for pid in pids)
    assert open_fds() == before


def test_all_end_when_the_service_is_killed(long_wav, tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(long_wav)
    script = (
        "import os, sys, time\n"
        "from samplecache.audio.decode import Decoder\n"
        "decoder = Decoder()\n"
        "decoding = decoder.open(os.open(sys.argv[1], os.O_RDONLY))\n"
        "print(decoder.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as service:
        server = int(service.stdout.readline())
        pids = [server, *children_of(server)]
        assert len(pids) == 2
        service.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_many_threads_decode_at_once(short_wav):
    files = [written("FLAC", "PCM_16", noise(3000, seed=seed)) for seed in range(4)]
    with Decoder(DecodeLimits(max_children=3)) as decoder, ThreadPoolExecutor(8) as threads:
        expected = [decode(decoder, data) for data in files]
        assert list(threads.map(lambda data: decode(decoder, data), files * 10)) == expected * 10


def test_too_many_at_once_wait_and_are_then_refused(long_wav):
    limits = DecodeLimits(max_children=1, wall_timeout_ns=NS_PER_S // 2)
    with Decoder(limits) as decoder, memory_file(long_wav) as fd, decoder.open(fd):
        with pytest.raises(LimitError, match="1 files are being decoded already") as refusal:
            decoder.open(fd)
        assert refusal.value.reason_code == "LIMIT_REACHED"


def test_one_that_waits_goes_on_when_a_child_is_free(short_wav, long_wav):
    with Decoder(DecodeLimits(max_children=1)) as decoder, memory_file(long_wav) as fd:
        first = decoder.open(fd)
        frames = []
        waiting = threading.Thread(target=lambda: frames.append(decode(decoder, short_wav)[0].frames))
        waiting.start()
        first.close()
        waiting.join(WAIT_S)
        assert frames == [1000]


def test_answers_are_believed_only_in_their_shape():
    header = Header(48_000, 2, "s16", 10, "WAV", "PCM_16")
    assert unpack_answer(pack(header)) == header
    assert unpack_answer(pack(Exit(-9, True))) == Exit(-9, True)
    forged = pack(Done(5)).replace(b"5", b'"5"')
    for packet in (
        forged,
        b"[]",
        b"\xff",
        b'{"kind": "Request"}',
        b'{"kind": ["Done"]}',
        b'{"kind": "Done"}',
        b"{" * 9,
    ):
        with pytest.raises(ValueError, match=r"."):
            unpack_answer(packet)
