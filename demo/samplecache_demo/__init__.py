"""The comparison that the README shows: one schedule of cold samples, played under each strategy through a server."""
