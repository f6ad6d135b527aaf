"""squareoff: bought once, sold once, out at the stop, and never silent about a position."""

__version__ = "0.1.0"
