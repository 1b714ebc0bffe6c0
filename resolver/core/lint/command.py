"""The programs that an image starts, and the paths where they may be.

Source: OCI image-spec v1.1.1, config.md ("Entrypoint", "Cmd", "WorkingDir", "Env"); execve(2).
"""

from __future__ import annotations

import re
from dataclasses import field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from resolver.core.layers.tar import TarEntryKind
from resolver.core.platforms.platform import brief
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolver.core.layers.elf_needs import ElfFile
    from resolver.core.layers.executable import Executable
    from resolver.core.oci.manifest import ImageConfig


#: Source: moby and containerd, oci.DefaultUnixEnv.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WINDOWS_PATH = r"C:\Windows\System32;C:\Windows"
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "ksh", "zsh", "busybox"})
_WINDOWS_SHELLS = frozenset({"cmd", "cmd.exe"})
_TAKES_A_LINE = frozenset({"-c", "-ec", "-lc", "-exc", "-euc", "/c"})
#: Programs that only start another one, and the number of words before that one.
#: Source: the manuals of tini, dumb-init, catatonit, gosu and su-exec.
_WRAPPERS = {
    "tini": 1, "tini-static": 1, "docker-init": 1, "dumb-init": 1, "catatonit": 1,
    "gosu": 2, "su-exec": 2,
}  # fmt: skip
#: Nested wrappers.
_MAX_WRAPPERS = 4
#: A shell command line that begins with a plain program name.
_PLAIN = re.compile(r"(?:exec +)?([A-Za-z0-9_./+-]+)(?: .*)?", re.DOTALL)
_WINDOWS_PLAIN = re.compile(r"([A-Za-z0-9_./\\:+-]+)(?: .*)?", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:")
#: Built-in commands of shells. Source: POSIX.1-2017, Shell Command Language, 2.4 and 2.14, and
#: bash's manual; Microsoft, "Windows commands", those of `cmd` alone.
_BUILT_IN = frozenset({
    ".", ":", "[", "alias", "break", "case", "cd", "command", "continue", "echo", "eval", "exit",
    "export", "false", "for", "function", "if", "local", "printf", "pwd", "read", "readonly",
    "return", "select", "set", "shift", "source", "test", "time", "times", "trap", "true", "type",
    "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
})  # fmt: skip
_WINDOWS_BUILT_IN = frozenset({
    "call", "cd", "chdir", "cls", "copy", "del", "dir", "echo", "erase", "exit", "for", "goto",
    "if", "md", "mkdir", "move", "path", "popd", "pushd", "rd", "rem", "ren", "rmdir", "set",
    "start", "title", "type", "ver", "vol",
})  # fmt: skip
#: Characters of a command or a path. Source: Linux, PATH_MAX.
_LONGEST = 4_096
#: Paths searched for one name.
_MAX_PLACES = 64


@dataclass(frozen=True, slots=True)
class Command:
    """A program that an image starts.

    `places`: paths to search, in order; absolute, without a leading slash. `is_certain`: whether
    the container itself starts it; False if another program seems to.
    """

    words: str
    places: tuple[str, ...]
    is_certain: bool


def commands_of(config: ImageConfig, *, windows: bool) -> tuple[Command, ...]:
    """List the programs that an image starts: `sh -c "exec app"` and `tini -- app` start two."""
    words = [*config.entrypoint, *config.cmd]
    found = dict.fromkeys(word for word in _started(words, windows=windows) if word)
    return tuple(
        Command(brief(word), places_of(config, word, windows=windows), is_certain=not number)
        for number, word in enumerate(found)
    )


def places_of(config: ImageConfig, word: str, *, windows: bool) -> tuple[str, ...]:
    """List the paths where a program of this name is searched."""
    word = word[:_LONGEST]
    if windows:
        places = _windows_places(config, word)
    elif "/" in word:
        places = iter([_joined(config.working_dir, word)])
    else:
        folders = _variable(config, "PATH", _PATH).split(":")
        places = (_joined(config.working_dir, f"{folder}/{word}") for folder in folders)
    return tuple(islice((place for place in places if len(place) <= _LONGEST), _MAX_PLACES))


#: Folders of libraries by architecture. Source: Debian, "Multiarch/Tuples"; FHS 3.0, "/lib<qual>".
_TUPLES = {
    "386": "i386-linux-gnu", "amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu",
    "loong64": "loongarch64-linux-gnu", "mips64le": "mips64el-linux-gnuabi64",
    "mipsle": "mipsel-linux-gnu", "ppc64le": "powerpc64le-linux-gnu",
    "riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
}  # fmt: skip
_ARM_TUPLES = ("arm-linux-gnueabihf", "arm-linux-gnueabi")


def library_places(config: ImageConfig, elf: ElfFile, path: str, name: str) -> tuple[str, ...]:
    """List the paths where a library that a file at `path` names is searched; see ld.so(8)."""
    if "/" in name:
        return (_joined(config.working_dir, name),)
    origin = path.rpartition("/")[0]
    stated = [
        folder.replace("${ORIGIN}", f"/{origin}").replace("$ORIGIN", f"/{origin}")
        for folder in elf.search
    ]
    own = [_TUPLES[elf.architecture]] if elf.architecture in _TUPLES else []
    tuples = list(_ARM_TUPLES) if elf.architecture == "arm" else own
    usual = [f"{root}/{name}" for name in tuples for root in ("/lib", "/usr/lib")]
    usual += ["/lib64", "/usr/lib64"] if elf.architecture not in {"386", "arm"} else []
    usual += ["/lib", "/usr/lib", "/usr/local/lib", *(f"/usr/local/lib/{each}" for each in tuples)]
    variable = _variable(config, "LD_LIBRARY_PATH", "").split(":")
    folders = dict.fromkeys(
        each for each in (*stated, *variable, *usual) if each and "$" not in each
    )
    places = (normal(_joined(config.working_dir, f"{folder}/{name}")) for folder in folders)
    return tuple(islice((place for place in places if len(place) <= _LONGEST), _MAX_PLACES))


def interpreter_of(line: str) -> str:
    """Return the program that runs a script, from its `#!` line; resolve `env`."""
    words = line.split()
    if not words:
        return ""
    if words[0].rpartition("/")[2] != "env":
        return words[0]
    named = (word for word in words[1:] if not word.startswith("-") and "=" not in word)
    return next(named, words[0])


def _started(words: Sequence[str], *, windows: bool) -> Iterator[str]:
    for _ in range(_MAX_WRAPPERS):
        if not words or not words[0]:
            return
        yield words[0]
        name = words[0].replace("\\", "/").rpartition("/")[2].lower()
        if name in (_WINDOWS_SHELLS if windows else _SHELLS):
            if words[-2:-1] and words[-2].lower() in _TAKES_A_LINE:
                yield from _first_of(words[-1][:_LONGEST].strip(), windows=windows)
            return
        inner = _wrapped(name, words)
        if name not in _WRAPPERS:
            yield from inner[:1]
            return
        words = inner


def _wrapped(name: str, words: Sequence[str]) -> Sequence[str]:
    if name in _WRAPPERS and words[1:] and not words[1].startswith("-"):
        return words[_WRAPPERS[name] :]
    return words[words.index("--", 1) + 1 :] if "--" in words[1:-1] else ()


def _first_of(line: str, *, windows: bool) -> Iterator[str]:
    """Yield the program at the start of a shell command line, if that is obvious."""
    match = (_WINDOWS_PLAIN if windows else _PLAIN).fullmatch(line)
    built_in = _WINDOWS_BUILT_IN if windows else _BUILT_IN
    if match is not None and match[1].lower() not in built_in:
        yield match[1]


def _windows_places(config: ImageConfig, word: str) -> Iterator[str]:
    name = word.replace("\\", "/").lower()
    working = _without_drive(config.working_dir.replace("\\", "/").lower())
    folders = _variable(config, "PATH", _WINDOWS_PATH).lower().split(";")
    base = _without_drive(name)
    if "/" in name or base != name:
        starts = [_joined(working, base)]
    else:
        searched = [_without_drive(folder.replace("\\", "/")) for folder in folders]
        starts = [_joined("", f"{folder}/{name}") for folder in (working, *searched)]
    for start in starts:
        yield start
        if "." not in start.rpartition("/")[2]:
            yield f"{start}.exe"


def _without_drive(path: str) -> str:
    return path[2:] if _DRIVE.match(path) else path


def _variable(config: ImageConfig, name: str, default: str) -> str:
    for line in reversed(config.env):
        key, _, value = line.partition("=")
        if key.upper() == name and value:
            return value
    return default


def _joined(folder: str, path: str) -> str:
    return (path if path.startswith("/") else f"{folder}/{path}").lstrip("/")


_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
#: The folder of files in a Windows layer. Source: OCI image-spec, layer.md; hcsshim, ociwclayer.
WINDOWS_ROOT = "files/"
#: Links followed to one file. Source: Linux, MAXSYMLINKS.
_MAX_LINKS = 40
#: Names looked up for one file, including those in the targets of links.
_MAX_STEPS = 1_024


class NameEntry(NamedTuple):
    """A layer's entry of a name.

    Attributes:
        target: of a link, as written.
        executable: None unless it is a program.
        interpreter: the rest of a script's `#!` line; empty for other files.
        is_elf: whether it is an ELF program or library.
        elf: what it needs; None until the layer was read past it.
    """

    kind: TarEntryKind
    target: str = ""
    executable: Executable | None = None
    interpreter: str = ""
    is_elf: bool = False
    elf: ElfFile | None = None


@dataclass(slots=True)
class LayerNames:
    """The names of one layer as far as read, and those that it removes from lower layers."""

    entries: dict[str, NameEntry] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)

    def add(self, path: str, entry: NameEntry) -> None:
        """Add a name; a later entry replaces an earlier one."""
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            self.opaque.add(folder)
        elif name.startswith(_WHITEOUT):
            self.removed.add(f"{folder}/{name[len(_WHITEOUT) :]}".lstrip("/"))
        else:
            self.entries[path] = entry

    def hides(self, path: str) -> bool:
        """Return whether this layer hides a name of lower layers."""
        if path in self.removed or "" in self.opaque:
            return True
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self.removed or folder in self.opaque:
                return True
        return False


@dataclass(slots=True)
class View:
    """The names of one layer for Unix, and for Windows, whose files are below `Files`."""

    unix: LayerNames = field(default_factory=LayerNames)
    windows: LayerNames = field(default_factory=LayerNames)

    def add(self, path: str, entry: NameEntry) -> None:
        """Add a normalised name."""
        self.unix.add(path, entry)
        lowered = path.lower()
        if lowered.startswith(WINDOWS_ROOT):
            self.windows.add(lowered.removeprefix(WINDOWS_ROOT), entry)


class NameHit(NamedTuple):
    """The result of a search.

    `layer`: position of its layer, counted from the top. `missed`: names that were not found; if
    one is added later, the result may change.
    """

    path: str
    layer: int
    entry: NameEntry | None
    missed: frozenset[str]


def normal(path: str) -> str:
    """Normalise a path: no leading slash, empty parts, `.` or `..`; `..` stops at the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def find(layers: Sequence[LayerNames], path: str) -> NameHit:
    """Look up a path in layers, topmost first, following links."""
    rest = path.split("/")[::-1]
    here: list[str] = []
    missed: set[str] = set()
    links = steps = 0
    while rest and steps < _MAX_STEPS:
        steps += 1
        part = rest.pop()
        if part == "..":
            del here[-1:]
        if part in {"", ".", ".."}:
            continue
        name = "/".join((*here, part))
        layer, entry = _look(layers, name)
        if entry is None:
            missed.add(name)
            # Archives need not list a folder before its contents.
            here.append(part)
        elif entry.kind in {TarEntryKind.SYMLINK, TarEntryKind.HARD_LINK}:
            links += 1
            if links > _MAX_LINKS:
                break
            if entry.kind is TarEntryKind.HARD_LINK or entry.target.startswith("/"):
                here = []
            rest += entry.target.split("/")[::-1]
        elif not rest:
            return NameHit(name, layer, entry, frozenset(missed))
        else:
            here.append(part)
    return NameHit("", 0, None, frozenset(missed))


def _look(layers: Sequence[LayerNames], name: str) -> tuple[int, NameEntry | None]:
    for number, names in enumerate(layers):
        entry = names.entries.get(name)
        if entry is not None:
            return number, entry
        if names.hides(name):
            break
    return 0, None
