"""What prefetching strategies achieve, case by case: simulated in virtual time, and measured through the service."""
