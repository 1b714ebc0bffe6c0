"""Kinds of files that contain image references, with patterns and finders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.core.parse.yaml_tree import Mapping, Node, at
from resolver.core.pin import bake, ci_files, compose
from resolver.core.pin import kubernetes as helm
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolver.core.pin.edits import Mark

#: The name of the only kind that is not YAML.
DOCKERFILE = "dockerfile"


def _never(_document: Node) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    Attributes:
        words: the plural for people.
        path: pattern for the end of its path, with `/`.
        find: returns its references; None for a Dockerfile, which is not YAML.
        fits: whether a document is of this kind, for files with another name.
        has_comments: it is JSON with comments, not YAML.
    """

    name: str
    words: str
    path: re.Pattern[str]
    find: Callable[[str, Node], Iterator[Mark]] | None
    fits: Callable[[Node], bool] = _never
    has_comments: bool = False


def _named(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE | re.DOTALL)


def _is_compose(document: Node) -> bool:
    return isinstance(at(document, "services"), Mapping) and at(document, "apiVersion") is None


#: All kinds; the first whose pattern matches the path applies, else the first that fits.
KINDS = (
    FileKind(DOCKERFILE, "Dockerfiles", _named(
        r"(?:docker|container)file(?:[._-][^/]*)?|[^/]+[._-](?:docker|container)file"
    ), None),
    FileKind("compose", "compose files", _named(
        r"(?:docker-)?compose(?:[._-][^/]*)?\.ya?ml|[^/]+[._-]compose\.ya?ml"
    ), compose.find_compose, _is_compose),
    FileKind("kustomization", "kustomizations", _named(
        r"kustomization(?:\.ya?ml)?"
    ), helm.find_kustomization, helm.is_kustomization),
    FileKind("workflow", "GitHub workflows and actions", _named(
        r"\.(?:github|gitea|forgejo)/workflows/[^/]+\.ya?ml|action\.ya?ml"
    ), ci_files.find_workflow, ci_files.fits),
    FileKind("gitlab", "`.gitlab-ci.yml`", _named(
        r"[^/]*\.gitlab-ci\.ya?ml|\.gitlab/ci/(?:.*/)?[^/]+\.ya?ml"
    ), ci_files.find_gitlab),
    FileKind("bake", "bake files", _named(
        r"docker-bake(?:[._-][^/]*)?\.(?:hcl|json)"
    ), bake.find),
    FileKind("devcontainer", "`devcontainer.json`", _named(
        r"\.?devcontainer\.json"
    ), ci_files.devcontainer, has_comments=True),
    FileKind("circleci", "CircleCI", _named(
        r"\.circleci/(?:.*/)?[^/]+\.ya?ml"
    ), ci_files.circleci),
    FileKind("woodpecker", "Woodpecker and Drone pipelines", _named(
        r"\.(?:woodpecker|drone)(?:[._-][^/]*)?\.ya?ml|\.woodpecker/(?:.*/)?[^/]+\.ya?ml"
    ), ci_files.steps, ci_files.is_drone),
    FileKind("bitbucket", "`bitbucket-pipelines.yml`", _named(
        r"bitbucket-pipelines\.ya?ml"
    ), ci_files.bitbucket),
    FileKind("cloudbuild", "Google Cloud builds", _named(
        r"(?:[^/]+[._-])?cloudbuild(?:[._-][^/]*)?\.(?:ya?ml|json)"
    ), ci_files.cloud_build),
    FileKind("helm", "Helm values", _named(
        r"values(?:[._-][^/]*)?\.ya?ml|[^/]+[._-]values\.ya?ml"
    ), helm.find_helm_values),
    FileKind("azure", "Azure pipelines", _named(
        r"[^/]*azure-pipelines?[^/]*\.ya?ml"
        r"|\.(?:azure-?pipelines|azuredevops)/(?:.*/)?[^/]+\.ya?ml"
    ), ci_files.azure, ci_files.is_azure),
    FileKind("kubernetes", "Kubernetes manifests", re.compile(
        r"(?!)"
    ), helm.find_kubernetes, helm.is_kubernetes),
)  # fmt: skip

#: Files that are YAML by their name.
_YAML = _named(r"[^/]*\.(?:ya?ml|json)")


def by_path(path: str) -> FileKind | None:
    """Return the kind of a file by its path; None if unknown."""
    return next((kind for kind in KINDS if kind.path.fullmatch(path)), None)


def by_content(documents: tuple[Node, ...]) -> FileKind | None:
    """Return the kind of a YAML file by its contents; None if unknown."""
    return next((kind for kind in KINDS if any(map(kind.fits, documents))), None)


def may_be_known(path: str) -> bool:
    """Whether the path, or else the contents, may determine the kind."""
    return by_path(path) is not None or _YAML.fullmatch(path) is not None
