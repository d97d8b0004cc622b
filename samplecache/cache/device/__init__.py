"""The swap device and memory: what they carry, what is on its way, and who yields when it is too much."""
