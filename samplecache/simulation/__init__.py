"""Floor 1: the paging model. Pure: no thread, no wall clock, no I/O; a seed in, the same trace out."""
