"""A scenario played by contenders in machines, over and over: what each run came to, and the report.

A *contender* plays the scenario: samplecache under a strategy, or something else that people use. A *case* is a
machine: kernel, swap device, memory. Repetitions are interleaved over contenders and cases, so that what the machine
itself goes through meets all of them alike.
"""
