"""Live connections that are not the REST API."""
