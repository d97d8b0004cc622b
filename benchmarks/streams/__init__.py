"""What the benchmarks of streaming are made of: a bare server, a cheap client, and how figures are read off them."""
