"""The only place with SQL and files."""
