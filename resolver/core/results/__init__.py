"""The results of verbs, one module per answer.

In all of them `reference` is canonical text, `root` what it points at, sizes are in bytes, texts
from images are escaped on output, and `warnings` do not change the result.
"""
