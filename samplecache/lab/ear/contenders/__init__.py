"""Who can be heard: samplecache, sound servers with a sample cache, and players without one."""
