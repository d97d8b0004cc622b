"""Floor 6: the command line. Human tables on a terminal, JSON with ``--json``, errors in one line on stderr."""

from samplecache.cli.app import app, main

__all__ = ["app", "main"]
