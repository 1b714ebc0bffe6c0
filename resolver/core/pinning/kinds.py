"""Kinds of files that name images, how each is recognised, and its finder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.pinning import bake, ci, compose, gitlab, helm, kubernetes, kustomize, workflow
from resolver.core.pinning.tree import Mapping, Node, at
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.pinning.spots import Mark

#: Name of the one kind that is no YAML.
DOCKERFILE = "dockerfile"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes:
        name: as it is told.
        words: what to call such files, for people.
        path: pattern of its path, with `/`, from the end.
        fits: whether a document is of this kind, for files of another name.
        find: its references; None for a Dockerfile, which is no YAML.
        has_comments: it is JSON with comments, not YAML.
    """

    name: str
    words: str
    path: re.Pattern[str]
    fits: Callable[[Node], bool]
    find: Callable[[str, Node], Iterator[Mark]] | None
    has_comments: bool = False


def _named(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE | re.DOTALL)


def _is_compose(document: Node) -> bool:
    return isinstance(at(document, "services"), Mapping) and at(document, "apiVersion") is None


def _never(_document: Node) -> bool:
    return False


#: Every kind; the first whose pattern fits the path decides, else the first that fits the content.
KINDS = (
    Kind(
        DOCKERFILE,
        "Dockerfiles",
        _named(r"(?:docker|container)file(?:[._-][^/]*)?|[^/]+[._-](?:docker|container)file"),
        _never,
        None,
    ),
    Kind(
        "compose",
        "compose files",
        _named(r"(?:docker-)?compose(?:[._-][^/]*)?\.ya?ml|[^/]+[._-]compose\.ya?ml"),
        _is_compose,
        compose.find,
    ),
    Kind(
        "kustomization",
        "kustomizations",
        _named(r"kustomization(?:\.ya?ml)?"),
        kustomize.fits,
        kustomize.find,
    ),
    Kind(
        "workflow",
        "GitHub workflows and actions",
        _named(r"\.(?:github|gitea|forgejo)/workflows/[^/]+\.ya?ml|action\.ya?ml"),
        workflow.fits,
        workflow.find,
    ),
    Kind(
        "gitlab",
        "`.gitlab-ci.yml`",
        _named(r"[^/]*\.gitlab-ci\.ya?ml|\.gitlab/ci/(?:.*/)?[^/]+\.ya?ml"),
        _never,
        gitlab.find,
    ),
    Kind(
        "bake",
        "bake files",
        _named(r"docker-bake(?:[._-][^/]*)?\.(?:hcl|json)"),
        _never,
        bake.find,
    ),
    Kind(
        "devcontainer",
        "`devcontainer.json`",
        _named(r"\.?devcontainer\.json"),
        _never,
        ci.devcontainer,
        has_comments=True,
    ),
    Kind(
        "circleci",
        "CircleCI",
        _named(r"\.circleci/(?:.*/)?[^/]+\.ya?ml"),
        _never,
        ci.circleci,
    ),
    Kind(
        "woodpecker",
        "Woodpecker and Drone pipelines",
        _named(r"\.(?:woodpecker|drone)(?:[._-][^/]*)?\.ya?ml|\.woodpecker/(?:.*/)?[^/]+\.ya?ml"),
        ci.is_drone,
        ci.steps,
    ),
    Kind(
        "bitbucket",
        "`bitbucket-pipelines.yml`",
        _named(r"bitbucket-pipelines\.ya?ml"),
        _never,
        ci.bitbucket,
    ),
    Kind(
        "cloudbuild",
        "Google Cloud builds",
        _named(r"(?:[^/]+[._-])?cloudbuild(?:[._-][^/]*)?\.(?:ya?ml|json)"),
        _never,
        ci.cloud_build,
    ),
    Kind(
        "helm",
        "Helm values",
        _named(r"values(?:[._-][^/]*)?\.ya?ml|[^/]+[._-]values\.ya?ml"),
        _never,
        helm.find,
    ),
    Kind(
        "azure",
        "Azure pipelines",
        _named(
            r"[^/]*azure-pipelines?[^/]*\.ya?ml"
            r"|\.(?:azure-?pipelines|azuredevops)/(?:.*/)?[^/]+\.ya?ml"
        ),
        ci.is_azure,
        ci.azure,
    ),
    Kind(
        "kubernetes", "Kubernetes manifests", re.compile(r"(?!)"), kubernetes.fits, kubernetes.find
    ),
)

#: Files that are YAML by their name.
_YAML = _named(r"[^/]*\.(?:ya?ml|json)")


def by_path(path: str) -> Kind | None:
    """Tell the kind of a file by its path."""
    return next((kind for kind in KINDS if kind.path.fullmatch(path)), None)


def by_content(documents: tuple[Node, ...]) -> Kind | None:
    """Tell the kind of a YAML file by what is in it."""
    return next((kind for kind in KINDS if any(map(kind.fits, documents))), None)


def may_be_known(path: str) -> bool:
    """Whether a look inside may tell the kind, or the path does."""
    return by_path(path) is not None or _YAML.fullmatch(path) is not None
