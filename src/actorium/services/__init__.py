"""Use cases: permission, rule, storage. Every requested change of state starts here."""
