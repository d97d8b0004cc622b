"""The command line as processes: signals, keys, pipes, and the server's own command."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from server_process import SAMPLECACHE, ServerProcess, environment, running_server

from samplecache.client import Client
from samplecache.kernel import procfs

RATE_HZ = 8_000
FRAMES = 60 * RATE_HZ
END_TIMEOUT_S = 30
SPACE, RIGHT, LEFT = b" ", b"\x1b[C", b"\x1b[D"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    soundfile.write(folder / "long.wav", (np.arange(FRAMES) % 30_000).astype(np.int16), RATE_HZ)
    with running_server(folder) as running:
        with Client(running.target) as client:
            client.put_file(folder / "long.wav")
        yield running


@contextmanager
def started(server: ServerProcess, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, and kill it then if it has not ended."""
    with subprocess.Popen(
        [*SAMPLECACHE, "--server", server.target, *arguments], stdout=subprocess.PIPE, env=environment(), **options
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def next_event(process: subprocess.Popen[bytes], name: str) -> dict[str, Any]:
    """Return the next event of that name that the command prints; those before it are passed over."""
    lines: IO[bytes] | None = process.stdout
    assert lines is not None
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no {name} came")


def test_keys_pause_seek_and_stop(server: ServerProcess) -> None:
    keyboard, terminal = pty.openpty()
    with started(server, "play", "long", "-o", "null", "--json", stdin=terminal) as process:
        next_event(process, "started")
        os.write(keyboard, RIGHT)
        sought = next_event(process, "seeked")["frame"]
        assert sought >= 5 * RATE_HZ
        os.write(keyboard, SPACE)
        paused_at = next_event(process, "summary")["next_frame"]
        assert sought <= paused_at < 20 * RATE_HZ
        os.write(keyboard, SPACE)
        next_event(process, "started")
        resumed = next_event(process, "seeked")["frame"]
        assert sought <= resumed <= paused_at
        os.write(keyboard, LEFT)
        assert next_event(process, "seeked")["frame"] < sought
        os.write(keyboard, b"q")
        next_event(process, "summary")
        next_event(process, "player")
        assert process.wait(END_TIMEOUT_S) == 0
    os.close(keyboard)
    os.close(terminal)


@pytest.mark.parametrize("output", ["null", "wav:long-out.wav"])
def test_an_interrupt_ends_with_a_summary(server: ServerProcess, output: str, tmp_path: Path) -> None:
    arguments = ("play", "long", "--loop", "-o", output, "--pace", "realtime", "--json")
    with started(server, *arguments, cwd=tmp_path) as process:
        next_event(process, "started")
        process.send_signal(signal.SIGINT)
        assert next_event(process, "summary")["stats"]["blocks"] < FRAMES
        assert next_event(process, "player")["output"] == output
        assert process.wait(END_TIMEOUT_S) == 130


def test_a_reader_that_leaves_ends_the_session(server: ServerProcess) -> None:
    with started(server, "play", "long", "-o", "-", "--loop", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(8) == np.arange(4, dtype="<i2").tobytes()
        process.stdout.close()
        assert process.wait(END_TIMEOUT_S) == 0
        assert process.stderr is not None
        error = process.stderr.read().decode()
    assert "blocks" in error
    assert "Traceback" not in error
    assert "Exception" not in error


def test_watch_prints_events_as_they_happen(server: ServerProcess) -> None:
    arguments = ("watch", "--kind", "prefetch-done", "--sample", "long", "--limit", "1", "--json")
    with started(server, *arguments) as process, Client(server.target) as client:
        next_event(process, "started")
        client.prefetch("long", strategy="touch").result()
        done = next_event(process, "prefetch_done")
        assert (done["sample_id"], done["strategy"], done["cancelled"], done["lost"]) == ("long", "touch", False, 0)
        assert process.wait(END_TIMEOUT_S) == 0


def test_watch_for_people_ends_by_interrupt(server: ServerProcess) -> None:
    with started(server, "watch") as process, Client(server.target) as client:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b" watching\n")
        client.prefetch("long", strategy="touch").result()
        assert b" prefetched: long, " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(END_TIMEOUT_S) == 130


# --- serve ---


def test_serve_says_where_and_ends_on_sigterm(tmp_path: Path) -> None:
    flags = ("--listen", "127.0.0.1:0", "--device", "zram-lz4", "--metrics-port", "0")
    with running_server(tmp_path, *flags) as server:
        lines = server.stop().splitlines()
        assert server.process.returncode == 0
    assert lines[0].startswith("samplecache 0.1.0 on the simulated kernel (")
    assert "zram-lz4" in lines[0]
    assert lines[1] == f"listening on {server.target}"
    assert lines[2].startswith("listening on 127.0.0.1:")
    assert not lines[2].endswith(":0")
    assert lines[3].startswith("metrics on http://127.0.0.1:")


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.toml").write_text('budget = "3MiB"\nlock_budget = "2MiB"\ndefault_strategy = "touch"\n')
    server_variables = {**environment(), "SAMPLECACHE_BUDGET": "5MiB", "SAMPLECACHE_LOCK_BUDGET": "4MiB"}
    monkeypatch.setattr("server_process.environment", lambda: server_variables)
    flags = ("--config", str(tmp_path / "server.toml"), "--lock-budget", "1MiB")
    with running_server(tmp_path, *flags) as server, Client(server.target) as client:
        stats = client.stats()
        assert (stats.budget_bytes, stats.lock_budget_bytes) == (5 << 20, 1 << 20)
        assert client.strategies().default_strategy == "touch"


def locked_kib(pid: int) -> int:
    """How much a process has locked, mapped but absent pages included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck:"))


@pytest.mark.skipif(not procfs.has_capability(procfs.CAP_IPC_LOCK), reason="needs CAP_IPC_LOCK")
def test_a_server_can_lock_its_own_memory_and_leaves_what_comes_later_alone(tmp_path: Path) -> None:
    with running_server(tmp_path, "--set", "lock_server=true") as server, Client(server.target) as client:
        locked = locked_kib(server.process.pid)
        assert locked > 20 << 10
        file = tmp_path / "long.wav"
        soundfile.write(file, np.random.default_rng(0).integers(-9000, 9000, (1 << 20, 2), np.int16), 48_000)
        client.put_file(file, "long")
        assert locked_kib(server.process.pid) < locked + (1 << 10)  # the sample has 4 MiB
    with running_server(tmp_path) as server:
        assert locked_kib(server.process.pid) < locked


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--config", "missing.toml"], "missing.toml"),
        (["--default-strategy", "magic"], "magic"),
        (["--kernel", "simulated", "--listen", "unix:missing/socket"], "missing/socket"),
    ],
)
def test_serve_refuses_in_one_line(tmp_path: Path, flags: list[str], text: str) -> None:
    """Before it makes a server, while it makes one, and when that is to listen; what else is wrong is tried there."""
    listen = [] if "--listen" in flags else ["--listen", f"unix:{tmp_path / 'socket'}"]
    finished = subprocess.run(
        [*SAMPLECACHE, "serve", *listen, *flags],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=tmp_path,
        timeout=END_TIMEOUT_S,
    )
    assert (finished.returncode, finished.stdout) == (1, "")
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert text in line
