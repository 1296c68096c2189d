"""The Actor."""
