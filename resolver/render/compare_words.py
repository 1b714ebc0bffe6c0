"""Words of comparisons: what every format says the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.render.units import megabytes

if TYPE_CHECKING:
    from resolver.core.history_alignment import Step

#: What is shown of an instruction where a table may be as wide as it likes.
_LONGEST = 400


def delta_words(delta: int) -> str:
    """Write a difference in bytes with its sign."""
    return f"{'-' if delta < 0 else '+'}{megabytes(abs(delta))}" if delta else "same"


def value_words(value: str | tuple[str, ...] | None) -> str:
    """Write a value; words are put in quotes where blanks would hide where one ends."""
    if value is None:
        return "(not set)"
    if isinstance(value, str):
        return value or "(empty)"
    return " ".join(word if word and " " not in word else repr(word) for word in value)


def step_words(step: Step | None) -> str:
    """Say what a step made of a build: nothing, no layer, or a layer of this size."""
    if step is None:
        return "absent"
    return megabytes(step.layer.size) if step.layer is not None else "-"


def mark(*, same: bool) -> str:
    """Mark a step that is not the same everywhere."""
    return "" if same else "!"


def cut(instruction: str) -> str:
    """Cut an instruction to what a line can hold; a script can be thousands of characters."""
    text = " ".join(instruction.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
