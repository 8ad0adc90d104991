"""Measures Chucky beside its peers: `make bench`, `make bench-peers`."""
