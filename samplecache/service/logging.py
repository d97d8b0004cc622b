"""The log of a server's processes."""

from __future__ import annotations

import sys

import structlog


def configure_log() -> None:
    """Log to stderr, with plain tracebacks: prettier ones print every frame's variables, sample bytes among them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper("iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
