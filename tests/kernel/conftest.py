"""Fixtures for tests of the running kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from samplecache.kernel.linux import LinuxKernel


@pytest.fixture
def kernel() -> Iterator[LinuxKernel]:
    """The running kernel."""
    made = LinuxKernel()
    yield made
    made.close()
