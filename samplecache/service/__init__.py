"""Floor 5: the gRPC service over the cache."""
