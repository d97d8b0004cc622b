"""How fast things are on the machine at hand. ``python -m benchmarks`` runs them all; see README.md."""
