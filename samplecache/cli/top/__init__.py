"""``samplecache top``: a server's sessions as they play, in the terminal."""
