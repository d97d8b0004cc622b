"""Audio formats, conversion on play, and the decoding of untrusted files.

:mod:`~samplecache.audio.format` says what PCM is; :mod:`~samplecache.audio.convert` turns blocks of one format into
another; :mod:`~samplecache.audio.decode` decodes files in a process of their own. The decoder process imports this
package, so it imports nothing by itself.
"""
