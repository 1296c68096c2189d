"""The processes that stand between a server and its native runs.

``spawner`` forks one ``keeper`` per attempt; the keeper outlives the server. Both run without
site-packages and import only the standard library and this directory.
"""
