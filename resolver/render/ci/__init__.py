"""Answers for CI systems: outputs, annotations, summaries, and report files."""
