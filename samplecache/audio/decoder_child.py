"""The decoder process: imports the decoders once, then forks a child with resource limits for every file.

Run by :class:`samplecache.audio.zygote.Zygote` as ``python -m samplecache.audio.decoder_child <socket fd>``. A fork
takes a few milliseconds where importing NumPy and libsndfile takes hundreds. This process reads no audio itself. It
ends when the socket closes, which happens at the latest when the service dies, and takes its children with it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from samplecache.audio.bytesource import ByteSource
from samplecache.audio.format import Encoding
from samplecache.audio.reader import Reader
from samplecache.audio.wire import (
    GO,
    MAX_MESSAGE_BYTES,
    READY,
    Done,
    Exit,
    Failure,
    Header,
    Request,
    pack,
    unpack_request,
)
from samplecache.clock import NS_PER_MS
from samplecache.errors import AudioError

_FDS_PER_REQUEST = 3
_STDERR_FD = 2


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    control: socket.socket
    deadline_ns: int
    has_timed_out: bool = False

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class DecoderServer:
    """Forks, watches and reaps; one thread, never blocked by a child.

    Parameters
    ----------
    requests : socket.socket
        ``SOCK_SEQPACKET``; each packet a :class:`~samplecache.audio.wire.Request` with three descriptors: the input,
        the pipe for PCM and the child's end of a socket, on which its end is reported too.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}  # by pidfd and by the control socket's descriptor
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)

    def serve(self) -> None:
        """Serve until the other end of the socket closes, then kill what still runs."""
        self._requests.send(READY)
        while True:
            ready = {fd for fd, _ in self._poll.poll(self._wait_ms())}
            for fd in ready & self._children.keys():
                if (child := self._children.get(fd)) is not None:  # gone if its other descriptor came first
                    self._attend(child, fd)
            self._kill_overdue()
            # Last, for a new child may get the descriptors of one that was forgotten just now.
            if self._requests.fileno() in ready and not self._accept():
                self._kill_all()
                return

    def _accept(self) -> bool:
        packet, fds, _, _ = socket.recv_fds(self._requests, MAX_MESSAGE_BYTES, _FDS_PER_REQUEST)
        if not packet:
            return False
        try:
            if len(fds) == _FDS_PER_REQUEST:
                self._fork(unpack_request(packet), *fds)
        except OSError as error:
            # Out of processes or descriptors. The sender sees its end close, and reports that nothing was decoded.
            print(f"samplecache decoder: cannot start a child: {error}", file=sys.stderr)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: Request, input_fd: int, pcm_fd: int, control_fd: int) -> None:
        control = socket.socket(fileno=os.dup(control_fd))
        pid = os.fork()
        if pid == 0:
            _run_child(request, input_fd, pcm_fd, control)
        deadline_ns = time.monotonic_ns() + request.wall_timeout_ns
        child = _Child(pid, os.pidfd_open(pid), control, deadline_ns)
        self._children[child.pidfd] = self._children[control.fileno()] = child
        self._poll.register(child.pidfd, select.POLLIN)
        self._poll.register(control, select.POLLRDHUP)

    def _attend(self, child: _Child, fd: int) -> None:
        if fd != child.pidfd:
            # Nobody listens to this child any more.
            self._poll.unregister(fd)
            child.kill()
            return
        _, wait_status = os.waitpid(child.pid, 0)
        status = os.waitstatus_to_exitcode(wait_status)
        self._forget(child)
        try:
            # A hostile child may have filled the socket; this process must not wait for anyone.
            child.control.send(pack(Exit(status, child.has_timed_out)), socket.MSG_DONTWAIT)
        except OSError:
            pass  # it was killed because the listener had gone
        finally:
            child.control.close()

    def _forget(self, child: _Child) -> None:
        for fd in (child.pidfd, child.control.fileno()):
            del self._children[fd]
            with contextlib.suppress(KeyError):  # the control socket may have hung up before
                self._poll.unregister(fd)
        os.close(child.pidfd)

    def _wait_ms(self) -> int | None:
        deadlines_ns = [child.deadline_ns for child in self._children.values() if not child.has_timed_out]
        if not deadlines_ns:
            return None
        return max(0, -(-(min(deadlines_ns) - time.monotonic_ns()) // NS_PER_MS))

    def _kill_overdue(self) -> None:
        now_ns = time.monotonic_ns()
        for child in self._children.values():
            if child.deadline_ns <= now_ns and not child.has_timed_out:
                child.has_timed_out = True
                child.kill()

    def _kill_all(self) -> None:
        for pid in {child.pid for child in self._children.values()}:
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
            os.waitpid(pid, 0)


def _run_child(request: Request, input_fd: int, pcm_fd: int, control: socket.socket) -> None:
    """Decode one file and end the process, whatever happens."""
    status = 1
    try:
        _close_all_but(input_fd, pcm_fd, control.fileno())
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, 0)  # pipes and sockets are not files in this sense
        _limit(resource.RLIMIT_NOFILE, 0)  # what is open stays open; nothing new can be
        _limit(resource.RLIMIT_AS, request.max_address_space_bytes)
        _limit(resource.RLIMIT_CPU, request.max_cpu_s)
        try:
            _decode(request, input_fd, pcm_fd, control)
        except AudioError as error:
            control.send(pack(Failure(error.reason_code, error.message, error.remedy, error.details)))
        except MemoryError:
            control.send(pack(_out_of_memory(request)))
        status = 0
    except BrokenPipeError:
        pass  # the listener has gone
    finally:
        os._exit(status)  # not even the parent's exit handlers may run here


def _decode(request: Request, input_fd: int, pcm_fd: int, control: socket.socket) -> None:
    store_encoding = Encoding(request.store_encoding) if request.store_encoding else None
    reader = Reader(ByteSource(input_fd, request.name), store_encoding, request.max_decoded_bytes)
    header = Header(
        reader.rate_hz, reader.channels, reader.encoding.value, reader.frames, reader.container, reader.codec
    )
    control.send(pack(header))
    if control.recv(len(GO)) != GO:
        return
    for piece in reader.pieces():
        left = memoryview(piece)
        while left:
            left = left[os.write(pcm_fd, left) :]
    os.close(pcm_fd)
    control.send(pack(Done(reader.frames)))


def _out_of_memory(request: Request) -> Failure:
    return Failure(
        "DECODE_LIMIT_REACHED",
        f"decoding {request.name} needs more than {request.max_address_space_bytes} bytes of address space",
        "Send the audio in another format, or raise the decoder's address space limit",
        {"max_address_space_bytes": str(request.max_address_space_bytes)},
    )


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    if which == resource.RLIMIT_CPU and (hard == resource.RLIM_INFINITY or ceiling < hard):
        # One second apart, for SIGXCPU comes at the soft limit and tells why; at the hard one it is SIGKILL.
        resource.setrlimit(which, (ceiling, ceiling + 1))
    else:
        resource.setrlimit(which, (ceiling, ceiling))


def _close_all_but(*kept: int) -> None:
    """Close every descriptor but `kept` and the standard ones; warnings of the codecs' own go nowhere."""
    null_fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_fd, _STDERR_FD)
    first = _STDERR_FD + 1
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, max(1 << 16, first))


def main() -> None:
    """Serve on the socket whose descriptor is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then closes the socket
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        DecoderServer(requests).serve()


if __name__ == "__main__":
    main()
