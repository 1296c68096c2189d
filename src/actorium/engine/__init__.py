"""Loops woken by a signal or a timer; they carry out what services have written down."""
