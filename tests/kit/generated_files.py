"""Hypothesis strategies for files that name images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

NAMES = ("alpine", "library/redis", "quay.io/org/app", "localhost:5000/a/b", "ghcr.io/o/x-y.z")
TAGS = ("1", "3.20", "v1.2.3-rc.1", "1.27-alpine", "latest", "20241101", "1e3", "0x1f")

#: Without those that YAML reads as numbers if they are not quoted.
texts = st.sampled_from([tag for tag in TAGS if tag not in {"3.20", "20241101", "1e3", "0x1f"}])

images = st.builds("{}:{}".format, st.sampled_from(NAMES), st.sampled_from(TAGS))
blanks = st.sampled_from([" ", "  ", "\t", " \t "])
trailing = st.sampled_from(["", " ", "  \t"])
notes = st.sampled_from(["", " # note", "  # image: not:this", " # 'quoted' \"too\"", " # ü 🐳"])


@dataclass(frozen=True)
class GeneratedFile:
    """A file, and how many images it names that can be pinned."""

    path: str
    text: str
    count: int


@st.composite
def dockerfiles(draw: DrawFn) -> GeneratedFile:
    """Write a Dockerfile."""
    escape = draw(st.sampled_from(["\\", "\\", "`"]))
    lines = [f"# escape={escape}"] if escape != "\\" or draw(st.booleans()) else []
    count = 0
    if draw(st.booleans()):
        lines.append(f"#{draw(trailing)}syntax={draw(images)}{draw(trailing)}")
        count += 1
    lines.append("")
    for number in range(draw(st.integers(1, 4))):
        lines += _from(draw, number, escape)
        count += 1
        for _ in range(draw(st.integers(0, 4))):
            more, held = _instruction(draw, escape, number)
            lines += more
            count += held
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return GeneratedFile("Dockerfile", draw(st.sampled_from(["", "\ufeff"])) + text, count)


def _from(draw: DrawFn, number: int, escape: str) -> list[str]:
    word = draw(st.sampled_from(["FROM", "from", "From"]))
    platform = draw(st.sampled_from(["", "--platform=linux/arm64", "--platform=$BUILDPLATFORM"]))
    gap = draw(blanks)
    parts = [word, *([platform] if platform else []), draw(images)]
    if draw(st.booleans()):
        parts += [draw(st.sampled_from(["AS", "as"])), f"stage{number}"]
    if draw(st.booleans()):
        return [draw(trailing) + gap.join(parts) + draw(trailing)]
    folded = [f"{part} {escape}{draw(trailing)}" for part in parts[:-1]]
    between = draw(st.sampled_from([[], ["  # FROM not:this"], [""]]))
    return [folded[0], *between, *folded[1:], f"  {parts[-1]}"]


def _instruction(draw: DrawFn, escape: str, number: int) -> tuple[list[str], int]:
    """Write an instruction: its lines, and the images in it."""
    image, gap = draw(images), draw(blanks)
    choices: list[tuple[list[str], int]] = [
        ([f"COPY{gap}--from={image}{gap}/a{gap}/b"], 1),
        ([f'COPY{gap}--chown=1:1{gap}--from="{image}"{gap}/a /b'], 1),
        ([f"COPY --from={number} /a /b"], 0),
        ([f"RUN{gap}--mount=type=bind,from={image},target=/x{gap}true"], 1),
        ([f"RUN --mount=type=cache,target=/c true --mount=from={image}"], 0),
        ([f"RUN <<EOF{draw(trailing)}", f"FROM {image}", "EOF"], 0),
        ([f"COPY <<-'A B' <<C /{gap}", f"COPY --from={image} a b", "\tA B", "C"], 0),
        ([f"RUN true && {escape}", "  # FROM not:this", f"  echo FROM {image}"], 0),
        ([f"# COPY --from={image} a b"], 0),
        ([f'LABEL x="FROM {image}" y=<<EOF'], 0),
        ([f"ONBUILD{gap}COPY{gap}--from={image}{gap}/a /b"], 1),
        ([""], 0),
    ]
    return draw(st.sampled_from(choices))


class YamlWriter:
    """Writes YAML in every style."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw
        self._step = draw(st.integers(1, 5))

    def block(self, node: object, indent: int = 0) -> list[str]:
        """Write mappings and lists over lines."""
        pad = " " * indent
        lines: list[str] = []
        if isinstance(node, dict):
            for key, value in node.items():
                lines += self._between(pad)
                lines += self._pair(pad, key, value, indent)
        elif isinstance(node, list):
            for value in node:
                lines += self._between(pad)
                inner = self.block(value, indent + 2) if isinstance(value, dict | list) else None
                if inner is None or self._draw(st.booleans()):
                    lines.append(f"{pad}- {self.flow(value)}{self._draw(notes)}")
                else:
                    lines += [f"{pad}-{self._draw(notes)}", *inner]
        return lines

    def _pair(self, pad: str, key: str, value: object, indent: int) -> list[str]:
        if isinstance(value, dict | list) and value and self._draw(st.integers(0, 3)):
            head = f"{pad}{key}:{self._draw(notes)}"
            return [head, *self.block(value, indent + self._step)]
        gap = self._draw(st.sampled_from([" ", "   "]))
        return [f"{pad}{key}:{gap}{self.flow(value)}{self._draw(notes)}"]

    def _between(self, pad: str) -> list[str]:
        return self._draw(
            st.sampled_from([[], [], [], [""], [f"{pad}# image: not:this"], ["# ü 🐳"]])
        )

    def flow(self, node: object) -> str:
        """Write anything on one line."""
        gap = self._draw(st.sampled_from(["", " "]))
        if isinstance(node, dict):
            inner = f",{gap} ".join(f"{key}: {self.flow(value)}" for key, value in node.items())
            return f"{{{gap}{inner}{gap}}}"
        if isinstance(node, list):
            return f"[{gap}{f',{gap}'.join(map(self.flow, node))}{gap}]"
        quote = self._draw(st.sampled_from(["", "'", '"']))
        return f"{quote}{node}{quote}"


Tree = dict[str, object]


def _compose(draw: DrawFn) -> tuple[str, Tree, int]:
    count = draw(st.integers(1, 3))
    services: Tree = {
        f"s{number}": _mixed(draw, {"image": draw(images)}) for number in range(count)
    }
    services["built"] = {"build": "x", "image": draw(images)}
    return "compose.yaml", {"services": services, "volumes": {"image": {"driver": "not"}}}, count


def _kubernetes(draw: DrawFn) -> tuple[str, Tree, int]:
    keys = draw(st.lists(st.sampled_from(["containers", "initContainers"]), unique=True))
    spec: Tree = {
        key: [_mixed(draw, {"name": "c", "image": draw(images)}) for _ in range(2)] for key in keys
    }
    spec["image"] = draw(images)
    spec["text"] = "not:this"
    return (
        "pod.yaml",
        {"apiVersion": "v1", "kind": "Pod", "spec": {"template": {"spec": spec}}},
        2 * len(keys) + 1,
    )


def _kustomize(draw: DrawFn) -> tuple[str, Tree, int]:
    count = draw(st.integers(1, 3))
    entries: list[object] = [
        {
            "name": "app",
            "newName": draw(st.sampled_from(NAMES)),
            "newTag": draw(texts),
        }
        for _ in range(count)
    ]
    return "kustomization.yaml", {"images": entries, "resources": ["a.yaml"]}, count


def _helm(draw: DrawFn) -> tuple[str, Tree, int]:
    def parts() -> Tree:
        held: Tree = {
            "repository": draw(st.sampled_from(NAMES)),
            "tag": draw(texts),
        }
        return held | {"pullPolicy": "Always"}

    tree: Tree = {
        "image": parts(),
        "sidecar": {"image": draw(images)},
        "list": [{"image": parts()}, {"x": 1}],
    }
    return "values.yaml", tree, 3


def _workflow(draw: DrawFn) -> tuple[str, Tree, int]:
    job: Tree = {
        "container": draw(images),
        "services": {"a": {"image": draw(images)}},
        "steps": [{"uses": "docker://" + draw(images)}, {"run": "image: x"[:3]}],
    }
    return ".github/workflows/ci.yml", {"on": "push", "jobs": {"a": job}}, 3


def _gitlab(draw: DrawFn) -> tuple[str, Tree, int]:
    tree: Tree = {
        "image": draw(images),
        "variables": {"text": "not:this"},
        "job": {
            "image": {"name": draw(images)},
            "services": [draw(images), {"name": draw(images)}],
        },
    }
    return ".gitlab-ci.yml", tree, 4


def _azure(draw: DrawFn) -> tuple[str, Tree, int]:
    tree: Tree = {
        "resources": {"containers": [{"container": "a", "image": draw(images)}]},
        "jobs": [
            {"job": "x", "container": "a", "services": {"b": "a"}},
            {"job": "y", "container": draw(images)},
            {"job": "z", "container": {"image": draw(images)}},
        ],
    }
    return "azure-pipelines.yml", tree, 3


def _circleci(draw: DrawFn) -> tuple[str, Tree, int]:
    tree: Tree = {
        "executors": {"a": {"docker": [{"image": draw(images)}]}},
        "jobs": {
            "b": {"docker": [{"image": draw(images)}, {"image": draw(images)}]},
            "c": {"machine": {"image": "ubuntu-2204:2024.01.1"}},
        },
    }
    return ".circleci/config.yml", tree, 3


def _woodpecker(draw: DrawFn) -> tuple[str, Tree, int]:
    tree: Tree = {
        "steps": [_mixed(draw, {"name": "a", "image": draw(images)})],
        "services": {"b": {"image": draw(images)}},
    }
    return ".woodpecker.yml", tree, 2


def _bitbucket(draw: DrawFn) -> tuple[str, Tree, int]:
    step: Tree = {"step": {"image": {"name": draw(images)}, "script": [{"pipe": "org/x:1.0"}]}}
    return "bitbucket-pipelines.yml", {"image": draw(images), "pipelines": {"default": [step]}}, 2


def _mixed(draw: DrawFn, keys: Tree) -> Tree:
    """Add keys before or after."""
    other: Tree = {"command": draw(st.sampled_from(["x", "image"])), "args": ["a", "b"]}
    return {**other, **keys} if draw(st.booleans()) else {**keys, **other}


MAKERS = {
    "compose": _compose,
    "kubernetes": _kubernetes,
    "kustomization": _kustomize,
    "helm": _helm,
    "workflow": _workflow,
    "gitlab": _gitlab,
    "azure": _azure,
    "circleci": _circleci,
    "woodpecker": _woodpecker,
    "bitbucket": _bitbucket,
}


@st.composite
def yamls(draw: DrawFn, kind: str) -> GeneratedFile:
    """Write a file of a kind of YAML."""
    path, tree, count = MAKERS[kind](draw)
    lines = YamlWriter(draw).block(tree)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    if kind in {"compose", "kubernetes"} and draw(st.booleans()):
        text = f"---{end}{text}"
    return GeneratedFile(path, draw(st.sampled_from(["", "\ufeff"])) + text, count)
