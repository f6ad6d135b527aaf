"""SQL as the record of what we meant: SQLite by default, written so that PostgreSQL needs only another URL."""
