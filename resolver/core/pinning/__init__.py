"""Pinning: which image references stand in a file, and where a digest goes.

A finder per kind of file gives `Spot`s, each an exact span of the file's text; an edit changes a
span and nothing else. To add a kind, write its finder and give it a row in `kinds.py`.
"""
