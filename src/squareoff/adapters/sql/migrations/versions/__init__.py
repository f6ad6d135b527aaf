"""One file a database version."""
