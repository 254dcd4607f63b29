"""One Argilla's tables copied to another: SQLite or PostgreSQL."""
