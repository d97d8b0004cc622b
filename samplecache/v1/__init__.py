"""The wire contract, generated from ``protos/`` by ``make generate``; never edited."""
