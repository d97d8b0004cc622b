"""The paging model: a machine with little memory and a slow swap device, in virtual time.

Pure: no thread, no wall clock, no input or output. The same options and the same calls give the same trace, to the
byte. Whatever would put a thread to sleep is a generator that yields the time, in nanoseconds, at which it wants to go
on.
"""
