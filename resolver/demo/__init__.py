"""Sample images, made in memory: something to try every command on without any registry.

`samples` is what `resolver demo` serves; `resolver.demo.builders` makes any other image.
"""

from __future__ import annotations

from resolver.demo.images import Sample, samples

__all__ = ["Sample", "samples"]
