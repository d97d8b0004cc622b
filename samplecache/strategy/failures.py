"""Logs what plugins, listeners and pieces of work raise, without failing itself."""

from __future__ import annotations

import traceback

import structlog

_log = structlog.get_logger("samplecache")


def log_failure(what: str, error: BaseException, **about: object) -> None:
    """Log `error` with its traceback and no variables. Any thread.

    Where rich is installed, ``exception()`` of structlog's default configuration prints the variables of every frame:
    half a second with the GIL held, and an error of its own if another thread changes one of them meanwhile.
    """
    _log.error(what, **about, stack="".join(traceback.format_exception(error)).rstrip())
