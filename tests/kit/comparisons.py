"""Comparisons with hostile text, for the tests of every format."""

from __future__ import annotations

from dataclasses import replace

from resolver.core.compare.compare import CompareReason, Terms, compare_build_sets, compare_builds
from resolver.core.compare.file_difference import (
    FileComparison,
    FileDifference,
    FileFacts,
    FolderDelta,
    Package,
    PackageDifference,
    PathChange,
    TreeComparison,
    TreeSummary,
)
from resolver.core.layers.executable import Executable
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Warned
from tests.kit.builds import build, gathered, layer, step

HOSTILE = "a\x1b[2J\u202e\x07\u2028::error::x\n##[error]|<script>alert(1)</script>&amp;`"
SHORT = "a\x1b[2J\u202e\n::error::x"
MB = 1_000_000


def tree(label: str, size: int) -> TreeSummary:
    """Count a tree whose every text is hostile."""
    program = Executable("elf", f"amd64{HOSTILE}", 64)
    return TreeSummary(
        label,
        Platform("linux", "arm64"),
        12,
        3,
        1,
        size,
        ((str(program), 2),),
        (FileFacts(f"usr/bin/{HOSTILE}", "file", 0o755, 0, 0, 9, "0" * 64, program=program),),
        (Package("dpkg", HOSTILE, HOSTILE, "amd64"),),
        ((HOSTILE, HOSTILE),),
        (HOSTILE,),
    )


def files(count: int = 15) -> FileComparison:
    """Compare two trees with `count` paths and packages that differ."""
    before = FileFacts(HOSTILE, "file", 0o644, 0, 0, 1_000, "1" * 64, device=(1, 2))
    after = FileFacts(HOSTILE, "symlink", 0o777, 7, 8, 0, link=HOSTILE)
    before = replace(before, xattrs=((f"user.{HOSTILE}", HOSTILE),))
    changes = (
        PathChange.TYPE,
        PathChange.MODE,
        PathChange.OWNER,
        PathChange.XATTRS,
        PathChange.LINK,
    )
    names = (f"user.{HOSTILE}",)
    differences = [
        FileDifference(f"{number} {HOSTILE}", changes, before, after, names)
        for number in range(count)
    ]
    differences += [
        FileDifference(f"new {HOSTILE}", (PathChange.ADDED,), None, after),
        FileDifference(f"old {HOSTILE}", (PathChange.REMOVED,), before, None),
    ]
    packages = [
        PackageDifference("apk", f"{number} {HOSTILE}", (HOSTILE,), ("2", "3"))
        for number in range(count)
    ]
    other = TreeComparison(
        tree("linux/arm64", 5 * MB),
        tuple(differences),
        ((PathChange.ADDED, 1), (PathChange.REMOVED, 1), (PathChange.TYPE, count)),
        7,
        3,
        (MB, 2 * MB),
        (FolderDelta(f"usr/{HOSTILE}", 0, MB), FolderDelta("", 0, MB)),
        tuple(packages),
        4,
    )
    return FileComparison(tree("linux/amd64", 4 * MB), (other,))


def apart() -> TreeComparison:
    """Return the summary of a tree that is not compared to others."""
    summary = TreeSummary(HOSTILE, None, 0, 0, 0, 0, (), (), ())
    return TreeComparison(summary, (), (), 0, 0, (0, 0), (), (), 0, f"not compared {HOSTILE}")


_BASE = layer("base", 30 * MB)
_AMD64 = build(
    "linux/amd64",
    [_BASE, layer("app", 5 * MB)],
    history=[step("ADD base"), step(f"RUN {HOSTILE}{'x' * 500}"), step("CMD", empty=True)],
    env=(f"{HOSTILE}=1",),
    labels=((HOSTILE, HOSTILE),),
    created=HOSTILE,
    user=HOSTILE,
    cmd=("sh", HOSTILE, ""),
    annotations={HOSTILE: HOSTILE},
)
_ARM64 = build(
    "linux/arm64",
    [_BASE, layer("arm app", 20 * MB)],
    history=[step("ADD base"), step(f"RUN {HOSTILE}{'y' * 500}"), step(HOSTILE)],
)
_SILENT = build("", [_BASE])
_WINDOWS = [
    build(f"windows/amd64:10.0.{20348 + n}.1", [layer("windows", 9 * MB)]) for n in range(4)
]


def _one() -> object:
    builds = [_AMD64, _ARM64, _SILENT]
    terms = Terms(expected=(Platform("linux", "s390x"), Platform("linux", "amd64")))
    found = compare_builds(gathered(*builds, reference=SHORT), builds, terms)
    return replace(
        found,
        files=FileComparison(files().base, (*files().others, apart())),
        reasons=(CompareReason("config", HOSTILE, HOSTILE),),
        warnings=(Warned("registry-warning", HOSTILE),),
    )


def _many() -> object:
    builds = [_AMD64, _ARM64, *_WINDOWS]
    return compare_builds(gathered(*builds), builds, Terms(expected=(Platform("linux", "amd64"),)))


def _two() -> object:
    ours = [_AMD64, _SILENT, *_WINDOWS[:2]]
    after = replace(_AMD64, descriptor=_ARM64.descriptor, manifest=_ARM64.manifest)
    theirs = [after, _ARM64, _WINDOWS[0]]
    found = compare_build_sets(
        (gathered(*ours, reference=SHORT), ours),
        (gathered(*theirs, reference=SHORT), theirs),
        Terms(expected=(Platform("linux", "s390x"),)),
    )
    first = replace(found.changes[0], files=files())
    reasons = (CompareReason("platforms", HOSTILE, HOSTILE),)
    return replace(found, changes=(first, *found.changes[1:]), reasons=reasons)


def _same() -> object:
    side = (gathered(_AMD64, reference="example.com/a-name-that-is-short:1"), ())
    return compare_build_sets(side, side, Terms())


def _agreeing() -> object:
    """Compare equal builds with equal files."""
    builds = [build("linux/amd64", [_BASE]), build("linux/arm64", [_BASE])]
    plain = TreeSummary("linux/amd64", None, 1, 0, 0, 9, (), (), ())
    other = TreeComparison(plain, (), (), 1, 0, (0, 0), (), (), 0)
    found = compare_builds(gathered(*builds), builds, Terms())
    return replace(found, files=FileComparison(plain, (other,)))


COMPARED: dict[str, object] = {
    "comparison": _one(),
    "comparison of one": compare_builds(gathered(_SILENT), [_SILENT], Terms()),
    "comparison that agrees": _agreeing(),
    "comparison of many": _many(),
    "two images": _two(),
    "two of the same": _same(),
}
