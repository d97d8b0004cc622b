"""Uploads over a connection that breaks."""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from server_process import ServerProcess, running_server
from waiting import wait_until

from samplecache.audio.format import AudioFormat, Encoding
from samplecache.client import Client, ClientError
from samplecache.client.uploading import FIRST_PAUSE_NS, MAX_FRUITLESS_TRIES
from samplecache.clock import VirtualClock

MONO = AudioFormat(8_000, 1, Encoding.S16)
PCM = bytes(range(256)) * 16_384
CUT_BYTES = 1 << 20
"""After a quarter of the upload."""


class Proxy:
    """Passes bytes on to a server, and breaks the first connections after so many bytes of the client's.

    Parameters
    ----------
    path : Path
        Where it listens.
    server : str
        The socket it passes on to.
    cuts : int
        How many connections are broken.
    close_after : bool
        Whether it stops listening after the last cut.
    before_cut : Callable
        Called before a connection is broken, which waits for it.
    """

    def __init__(
        self,
        path: Path,
        server: str,
        cuts: int,
        *,
        close_after: bool = False,
        before_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_cut = before_cut
        self.target = f"unix:{path}"
        self._server = server
        self._cuts = cuts
        self._close_after = close_after
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            self._break(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                limit = None
                if self._cuts:
                    self._cuts -= 1
                    limit = CUT_BYTES
                threading.Thread(target=self._pass, args=(client, server, limit), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed_bytes = 0
        with contextlib.suppress(OSError):
            while (limit is None or passed_bytes < limit) and (data := source.recv(4096)):
                sink.sendall(data)
                passed_bytes += len(data)
        if limit is not None:
            self._before_cut()
        if limit is not None and self._close_after and not self._cuts:
            self._break(self._listener)
        self._break(source)
        self._break(sink)

    def _break(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def spooled_bytes(pid: int) -> int:
    """How much the process has in files without a name, such as an upload's spool."""
    sizes = [0]
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()).endswith(" (deleted)"):
                sizes.append(link.stat().st_size)
    return sum(sizes)


def socket_of(server: ServerProcess) -> str:
    return server.target.removeprefix("unix:")


@pytest.mark.parametrize("cuts", [1, 3])
def test_an_upload_goes_on_where_the_connection_broke(server: ServerProcess, tmp_path: Path, cuts: int) -> None:
    sent: list[int] = []

    # What has only reached the server's transport is lost with the connection: wait until some has reached its disk.
    def wait_for_the_server() -> None:
        wait_until(lambda: spooled_bytes(server.process.pid) > 0)

    proxying = Proxy(tmp_path / "proxy", socket_of(server), cuts, before_cut=wait_for_the_server)
    with proxying as proxy, Client(proxy.target) as client:
        response = client.put_file(io.BytesIO(PCM), f"cut-{cuts}", raw_format=MONO, progress=sent.append)
    assert response.sample.size_bytes == len(PCM)
    resumed_at = [after for before, after in itertools.pairwise(sent) if after <= before]
    assert len(resumed_at) >= cuts
    assert resumed_at == sorted(resumed_at)
    assert all(0 < offset < len(PCM) for offset in resumed_at)
    assert sent[-1] == len(PCM)


def test_an_upload_that_is_not_resumable_fails_and_leaves_nothing(server: ServerProcess, tmp_path: Path) -> None:
    with Proxy(tmp_path / "proxy", socket_of(server), 1) as proxy, Client(proxy.target) as client:
        with pytest.raises(ClientError) as caught:
            client.put_file(io.BytesIO(PCM), "lost", raw_format=MONO, resumable=False)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert [sample.sample_id for sample in client.list_samples() if sample.sample_id == "lost"] == []


def test_an_upload_gives_up_when_the_server_stays_away(server: ServerProcess, tmp_path: Path) -> None:
    clock = VirtualClock()
    with (
        Proxy(tmp_path / "proxy", socket_of(server), 1, close_after=True) as proxy,
        Client(proxy.target, clock=clock) as client,
        pytest.raises(ClientError) as caught,
    ):
        client.put_file(io.BytesIO(PCM), "away", raw_format=MONO)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert clock.now_ns() == FIRST_PAUSE_NS * (2**MAX_FRUITLESS_TRIES - 1)


def test_an_upload_that_never_got_through_fails_at_once(tmp_path: Path) -> None:
    clock = VirtualClock()
    with Client(f"unix:{tmp_path / 'nobody'}", clock=clock) as client, pytest.raises(ClientError):
        client.put_file(io.BytesIO(PCM), "early", raw_format=MONO)
    assert clock.now_ns() == 0
