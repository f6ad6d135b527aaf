"""One module or package per broker."""
