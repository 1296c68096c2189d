"""Stand-ins that keep the real contracts: a clock that moves on demand, a runtime that is scripted."""
