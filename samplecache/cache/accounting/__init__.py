"""What playing and bringing in have come to, and what may be brought in ahead."""
