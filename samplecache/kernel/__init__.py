"""Floor 2: the kernel port and the two kernels behind it."""
