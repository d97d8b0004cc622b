"""Workloads as data: what is stored, what plays when, with how much memory, from which swap device, beside what load.

A scenario is a TOML file (:mod:`.reading`), checked by :mod:`.tables` and turned by :mod:`.score` into what happens
when. One file serves the real kernel and the simulated one. ``library/`` has those that ship with samplecache.
"""
