"""Decisions: events and the time in, actions out. No I/O, no clock, no randomness, no logging."""
