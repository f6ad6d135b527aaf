"""Redis as the place where the running system meets: our own small server, and the store in it."""
