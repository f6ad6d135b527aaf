"""What `start`, `stop` and `status` tell of the strategies: what is held, what comes next, who guards it."""
