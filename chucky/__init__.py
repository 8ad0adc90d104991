"""Chucky keeps one service running on exactly one machine, the best one that is up."""

from chucky.client import fact

__all__ = ["fact"]
__version__ = "1.0"
