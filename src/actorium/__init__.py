"""Actorium: runs Apify Actors on your own machine, behind the Apify API v2."""
