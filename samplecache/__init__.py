"""samplecache keeps audio samples in anonymous memory and has their pages back in RAM before they are played."""

__version__ = "0.1.0"
