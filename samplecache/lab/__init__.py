"""Floor 6: machines under pressure, scenarios, comparisons."""
