#!/usr/bin/env python3
"""Measure the layout of the code against the limits below.

    scripts/house.py            print the table; status 1 if a limit is exceeded
    scripts/house.py --files    also list the files that each command enters

Measured are product files and lines, import circles (imports in annotations and in functions
included), public class names defined twice, citations of pages or headings that do not exist, and
the files in which a function runs while a command does its work. Run it with the Python of .venv.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "resolver"


#: Files and lines that a feature added since the layout was made; the base is the layout with the
#: features it had. Add a row in a commit that gives the reason.
FEATURES: dict[str, tuple[int, int]] = {
    # Measured while the old layout stood: 57,457 lines before, 67,210 after.
    "complete images, real-world inputs, and hardening": (0, 9_753),
    # Readers of ELF files, the answer, the verb, its command and its rendering.
    "what programs need of a processor": (7, 2_600),
    # Two engines behind one protocol; the limiter; batches of the store.
    "speed": (2, 1_200),
    # The plan, uploads, sources, indexes, syncs; upload sessions, passwords, the registry.
    "copy and a writable registry": (11, 6_000),
    # Terminals, pages and progress; completion, custom sources; engines of this machine.
    "terminals, packages, library and engines": (3, 2_300),
    # Statements, bundles and signatures; the verb, its command and its rendering.
    "attestations": (7, 2_200),
    # Formats, their index, planning and rebuilding.
    "layers in chunks": (3, 1_900),
    # Executors, a cluster, shards, merging; a tier in object storage.
    "more than one machine": (6, 2_400),
}

#: At most. "entered" counts the files in which one of our functions runs. Lower a limit when the
#: code allows it.
LIMITS = {
    "product files": 250 + sum(files for files, _ in FEATURES.values()),
    "product lines": 51_000 + sum(lines for _, lines in FEATURES.values()),
    "import circles": 0,
    "public class names with two meanings": 0,
    "citations that lead nowhere": 0,
    "files entered by resolve": 52,
    "files entered by pull": 70,
    "files entered by compare A B": 64,
    "files entered by pin": 56,
    "files entered by ls": 29,
}

#: The commands whose files are counted: a name, and the arguments of `resolver`.
COMMANDS = {
    "resolve": ["resolve", "{at}/demo/app:1.0", "-p", "linux/arm64"],
    "pull": ["pull", "{at}/demo/app:1.0", "-p", "linux/arm64"],
    "compare A B": ["compare", "{at}/demo/app:1.0", "{at}/demo/app:2.0"],
    "pin": ["pin", "{folder}/Dockerfile"],
    "ls": ["ls"],
}

#: Runs one command, and writes the files in which a function was called to its first argument.
_PROBE = """
import json, sys, threading
target, *arguments = sys.argv[1:]
entered = set()
def note(frame, event, _argument):
    # The code of a module or a class body runs at import; it lacks CO_OPTIMIZED.
    if event == "call" and frame.f_code.co_flags & 1 and frame.f_code.co_name[0] != "<":
        entered.add(frame.f_code.co_filename)
from resolver.__main__ import main
sys.argv = ["resolver", *arguments]
import os
end = os._exit
def leave(status):
    sys.setprofile(None)
    with open(target, "w") as file:
        json.dump(sorted(entered), file)
    end(status)
os._exit = leave
threading.setprofile(note)
sys.setprofile(note)
try:
    main()
finally:
    leave(0)
"""

#: Serves the sample images until its standard input ends.
_SERVER = """
import sys
from resolver.demo import samples
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
with serve(MemoryShelf(samples())) as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""


def modules() -> dict[str, Path]:
    """Return the path of every module of the product, by its name."""
    paths = {}
    for path in sorted(PRODUCT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def circles(paths: Mapping[str, Path]) -> list[list[str]]:
    """Return the groups of modules that import one another, by Tarjan's algorithm.

    Imports in functions and annotations count, and so does a submodule that imports its package.
    """
    graph = {name: imports(path, name, paths) for name, path in paths.items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group: list[str] = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    sys.setrecursionlimit(10_000)
    for name in paths:
        if name not in order:
            visit(name)
    return groups


def imports(path: Path, name: str, paths: Mapping[str, Path]) -> set[str]:
    """Return the modules of the product that a file imports, anywhere in it."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= members & paths.keys()
            if members - paths.keys():
                imported.add(node.module)
    return (imported & paths.keys()) - {name}


def doubles(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the public class names that several modules define."""
    homes = defaultdict(list)
    for name, path in paths.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


#: A citation of the documentation: a page, and a heading in quotation marks, over two lines too.
_CITATION = re.compile(r'docs/([a-z-]+)\.md(?:,\s+(?:#:?\s+)?"([^"]+)")?')
#: A citation of notes that are not in this repository.
_OUTSIDE = re.compile(
    r"\b(?:R[0-9]{1,2}|D[0-9]{1,2}|q-[0-9]{3})\b"
    r"|(?<![/\w-])(?:protocol|platforms|reliability|architecture|product|peers|hardening)\.md\b"
)
#: Pages of other projects that have the same form: containerd's docs/hosts.md and docs/ops.md.
_FOREIGN = frozenset({"hosts", "ops"})


def citations(paths: Iterable[Path]) -> list[str]:
    """Return the citations whose page or heading does not exist, as `file:line: citation`.

    In Python files, comments and docstrings are read; of any other file, the whole text.
    """
    headings = {
        path.stem: set(re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8")))
        for path in (ROOT / "docs").glob("*.md")
    }
    lost = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for start, passage in prose(text) if path.suffix == ".py" else [(1, text)]:
            for offset, citation in misses(passage, headings):
                line = start + passage.count("\n", 0, offset)
                lost.append(f"{path.relative_to(ROOT)}:{line}: {citation}")
    return lost


def misses(text: str, headings: Mapping[str, set[str]]) -> Iterator[tuple[int, str]]:
    """Yield offset and text of each citation that leads nowhere."""
    for match in _CITATION.finditer(text):
        heading = re.sub(r"\s+(?:#:?\s+)?", " ", match[2]) if match[2] else None
        known = headings.get(match[1], {None} if match[1] in _FOREIGN else set())
        if not known or (heading is not None and heading not in known):
            yield match.start(), match[0]
    for match in _OUTSIDE.finditer(text):
        yield match.start(), match[0]


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, and of each run of comments on adjacent lines."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value
    first, comments = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if comments and token.start[0] != first + len(comments):
                yield first, "\n".join(comments)
                comments = []
            first = first if comments else token.start[0]
            comments.append(token.string)
    yield first, "\n".join(comments)


def entered(*, show: bool) -> dict[str, int]:
    """Run each command on the sample images, and count the files that it enters."""
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("RESOLVER_", "DOCKER_"))
            },
            "HOME": folder,
            "RESOLVER_STORE": f"{folder}/store",
            "PYTHONPATH": str(ROOT),
        }
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if server.stdout is None or server.stdin is None:
            raise SystemExit("the registry of the sample images has no pipes")
        at = server.stdout.readline().strip()
        dockerfile = Path(folder, "Dockerfile")
        dockerfile.write_text(f"FROM {at}/demo/app:1.0\n", encoding="utf-8")
        for name, words in COMMANDS.items():
            target = Path(folder, "entered.json")
            filled = [word.format(at=at, folder=folder) for word in words]
            done = subprocess.run(
                [sys.executable, "-c", _PROBE, str(target), *filled],
                env=environment,
                check=False,
                capture_output=True,
            )
            # `compare` ends with status 1 where images differ.
            if done.returncode > 1:
                raise SystemExit(f"`resolver {' '.join(filled)}` failed: {done.stderr.decode()}")
            files = [
                str(Path(file).relative_to(ROOT))
                for file in json.loads(target.read_text(encoding="utf-8"))
                if Path(file).is_relative_to(PRODUCT)
            ]
            counts[f"files entered by {name}"] = len(files)
            if show:
                print(f"{name}:", *files, sep="\n  ")
        server.stdin.close()
        server.wait()
    return counts


def main() -> int:
    """Print the table; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", action="store_true", help="list the files each command enters")
    options = parser.parse_args()
    paths = modules()
    groups, twice, lost = circles(paths), doubles(paths), citations(paths.values())
    counts = {
        "product files": len(paths),
        "product lines": sum(
            len(path.read_text(encoding="utf-8").splitlines()) for path in paths.values()
        ),
        "import circles": len(groups),
        "public class names with two meanings": len(twice),
        "citations that lead nowhere": len(lost),
        **entered(show=options.files),
    }
    width = max(map(len, counts))
    for name, count in counts.items():
        limit = LIMITS[name]
        mark = "  over the limit" if count > limit else ""
        print(f"{name:{width}}  {count:>7,}  at most {limit:>7,}{mark}")
    for group in groups:
        print("circle:", ", ".join(group))
    for name, places in twice.items():
        print(f"class {name}:", ", ".join(places))
    for place in lost:
        print("citation:", place)
    return int(any(count > LIMITS[name] for name, count in counts.items()))


if __name__ == "__main__":
    sys.exit(main())
