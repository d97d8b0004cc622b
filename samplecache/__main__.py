"""``python -m samplecache``."""

from samplecache.cli import main

if __name__ == "__main__":
    main()
