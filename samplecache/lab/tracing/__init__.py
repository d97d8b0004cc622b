"""Traces: the same program of paging operations on the running kernel and on the simulated one, step by step.

:mod:`.program` says what a program is, :mod:`.steps` what it may do, :mod:`.reading` reads one from a file,
:mod:`.running` runs it on either kernel, and :mod:`.comparing` says where they differ.
"""
