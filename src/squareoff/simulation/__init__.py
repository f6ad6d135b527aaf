"""The same engine in a made-up world: virtual time, recorded or generated prices."""
