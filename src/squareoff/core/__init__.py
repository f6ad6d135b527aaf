"""DECIDES. Pure: no clock, no dice, no I/O. Facts come in as arguments, a decision comes out."""
