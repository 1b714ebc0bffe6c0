"""The tests; their folders mirror those of `resolver`."""

from pathlib import Path

#: Vectors, hostile documents and corpora.
DATA = Path(__file__).parent / "data"
#: The repository.
ROOT = Path(__file__).parent.parent
