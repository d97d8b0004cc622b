"""The comparison that the README shows: one schedule of cold samples, played once per strategy through a real server."""
