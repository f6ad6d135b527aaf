"""SHOWS and ASKS: the command line, and what it draws."""
