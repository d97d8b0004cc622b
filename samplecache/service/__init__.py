"""Floor 5: the gRPC service over the cache, and a client for it."""
