"""Speed and size, always as a ratio to a floor measured in the same run. Start: `python -m bench.run`."""
