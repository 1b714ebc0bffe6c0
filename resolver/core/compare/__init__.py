"""Comparing builds: layers, settings, history, files and packages."""
