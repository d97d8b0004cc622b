"""The thread of January 2008 about MADV_WILLNEED for anonymous memory, answered with simulated figures."""
