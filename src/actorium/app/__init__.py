"""Builds every object, and starts and stops them in order; the only package that knows all others.

``platform.py`` is the whole program on one event loop, ``serving.py`` puts it behind a socket and signals, and
``opening.py`` makes what the settings say.
"""
