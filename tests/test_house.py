"""`scripts/house.py` finds import circles, duplicate names and dead citations."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def load() -> Any:
    """Import scripts/house.py, which is not in a package."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOUSE = load()


def write(folder: Path, **sources: str) -> dict[str, Path]:
    paths = {}
    for name, source in sources.items():
        path = folder / f"{name}.py"
        path.write_text(source)
        paths[name] = path
    return paths


def test_import_circles_include_functions_and_annotations(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        one="def run():\n    import two\n",
        two="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from three import Three\n",
        three="import one\n",
        apart="import one\n",
    )

    assert HOUSE.circles(paths) == [["one", "three", "two"]]


def test_duplicate_names_are_public_classes_only(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        one="class Same: ...\nclass _Private: ...\n",
        two="class Same: ...\nclass _Private: ...\nclass Other: ...\n",
    )

    assert HOUSE.doubles(paths) == {"Same": ["one", "two"]}


def test_house_reads_the_modules_of_the_product() -> None:
    paths = HOUSE.modules()

    assert paths["resolver"] == ROOT / "resolver" / "__init__.py"
    assert paths["resolver.core.oci.digest"] == ROOT / "resolver/core/oci/digest.py"


def test_every_command_has_a_limit() -> None:
    counted = {f"files entered by {name}" for name in HOUSE.COMMANDS}

    assert counted == {name for name in HOUSE.LIMITS if name.startswith("files entered by")}
