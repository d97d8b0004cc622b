"""Servers for the tests, each in the test's own process and event loop."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from served import FAST, Serve, Served

from samplecache.service.config import ServerConfig
from samplecache.service.server import Server


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server with these settings on a socket of its own; it ends with the test."""
    numbers = itertools.count()
    async with AsyncExitStack() as stack:

        async def run(**settings: Any) -> Served:
            listen = (f"unix:{tmp_path}/{next(numbers)}.sock",)
            server = Server(ServerConfig.load(**{"listen": listen, **FAST, **settings}))
            await server.start()
            stack.push_async_callback(server.stop)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.addresses[0]))
            return Served(server, channel, server.addresses[0])

        yield run


@pytest.fixture
async def served(serve: Serve) -> Served:
    """A server with default settings on the simulated kernel."""
    return await serve()
