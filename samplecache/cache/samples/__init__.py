"""Samples: what is kept of them, in which order they go, and how they come in."""
