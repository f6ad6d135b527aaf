"""The web console: what `web/` is built into (`static/`, not in git), as files the API serves."""
