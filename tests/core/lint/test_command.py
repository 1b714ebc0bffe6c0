"""Finding the entrypoint of an image in partly known layers."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.core.layers.tar import TarEntryKind
from resolver.core.lint.command import (
    LayerNames,
    NameEntry,
    View,
    commands_of,
    find,
    interpreter_of,
    normal,
)
from resolver.core.oci.manifest import parse_config

FILE, FOLDER = NameEntry(TarEntryKind.FILE), NameEntry(TarEntryKind.FOLDER)

_part = st.sampled_from(["a", "b", "c", "..", ".", "", "bin"])
_path = st.lists(_part, max_size=6).map("/".join)
_entry = st.one_of(
    st.just(FILE), st.just(FOLDER), st.builds(NameEntry, st.just(TarEntryKind.SYMLINK), _path)
)


def layer(**entries: NameEntry) -> LayerNames:
    names = LayerNames()
    for name, entry in entries.items():
        names.add(name.replace("_", "/"), entry)
    return names


def link(target: str) -> NameEntry:
    return NameEntry(TarEntryKind.SYMLINK, target)


@given(_path)
@example("../../../etc/passwd")
@example("/./a//b/../c/")
def test_normal_path_stays_unchanged_inside_the_root(path: str) -> None:
    name = normal(path)

    assert normal(name) == name
    assert not {"", ".", ".."} & set(name.split("/")) or name == ""


@given(st.lists(st.dictionaries(_path.map(normal), _entry, max_size=8), max_size=4), _path)
def test_command_search_returns_a_file_or_the_missing_path(
    drawn: list[dict[str, NameEntry]], path: str
) -> None:
    layers = []
    for entries in drawn:
        names = LayerNames()
        for name, entry in entries.items():
            names.add(name, entry)
        layers.append(names)

    hit = find(layers, path)

    if hit.entry is None:
        assert hit.path == ""
    else:
        assert layers[hit.layer].entries[hit.path] is hit.entry
        assert hit.entry.kind in {TarEntryKind.FILE, TarEntryKind.FOLDER}
        assert not any(layers[above].hides(hit.path) for above in range(hit.layer))


def test_command_search_lists_every_missed_path() -> None:
    hit = find([layer(bin=link("usr/bin")), layer()], "bin/sh")

    assert hit.entry is None
    assert hit.missed == {"usr", "usr/bin", "usr/bin/sh"}


def test_implicit_folder_is_a_folder() -> None:
    assert find([layer(usr_bin_sh=FILE)], "/usr/bin/sh").path == "usr/bin/sh"


def test_command_search_follows_links_inside_the_root() -> None:
    assert find([layer(a=link("../../../b"), b=FILE)], "a").path == "b"


def test_windows_paths_ignore_case() -> None:
    view = View()
    view.add("Files/Windows/System32/cmd.exe", FILE)
    view.add("Hives/System_Delta", FILE)

    assert find([view.windows], "windows/system32/cmd.exe").entry is FILE
    assert list(view.windows.entries) == ["windows/system32/cmd.exe"]


def test_command_search_in_a_hostile_config_is_limited() -> None:
    config = {"Cmd": ["x" * 10_000], "Env": ["PATH=" + ":".join(f"/{n}" for n in range(1_000))]}
    body = json.dumps({"config": config}).encode()
    (long,) = commands_of(parse_config(body, "it", None), windows=False)
    short = {**config, "Cmd": ["x"]}
    body = json.dumps({"config": short}).encode()
    (many,) = commands_of(parse_config(body, "it", None), windows=False)
    deep = "/".join(["d"] * 1_024)

    assert long.places == ()
    assert len(long.words) == 80
    assert len(many.places) == 64
    assert find([layer()], deep).missed
    assert len(find([layer()], f"{deep}/e").missed) == 1_024


def test_command_search_with_an_opaque_root() -> None:
    names = LayerNames()
    names.add(".wh..wh..opq", FILE)

    assert find([names, layer(a=FILE)], "a").entry is None


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("/bin/sh", "/bin/sh"),
        (" /bin/sh -eu", "/bin/sh"),
        ("/usr/bin/env bash", "bash"),
        ("/usr/bin/env -S -i A=1 node --x", "node"),
        ("/usr/bin/env", "/usr/bin/env"),
        ("", ""),
    ],
)
def test_script_interpreter_is_found(line: str, program: str) -> None:
    assert interpreter_of(line) == program


@pytest.mark.parametrize(
    ("config", "windows", "words", "places"),
    [
        ('{"Entrypoint": ["/app"], "Cmd": ["serve"]}', False, "/app", ("app",)),
        ('{"Cmd": ["app"], "Env": ["PATH=/x:/y"]}', False, "app", ("x/app", "y/app")),
        ('{"Cmd": ["bin/app"], "WorkingDir": "/srv"}', False, "bin/app", ("srv/bin/app",)),
        (r'{"Cmd": ["C:\\App\\x.exe"]}', True, r"C:\App\x.exe", ("app/x.exe",)),
        (
            r'{"Cmd": ["tool"], "Env": ["Path=C:\\Bin"]}',
            True,
            "tool",
            ("tool", "tool.exe", "bin/tool", "bin/tool.exe"),
        ),
    ],
)
def test_command_is_searched_in_path(
    config: str, windows: bool, words: str, places: tuple[str, ...]
) -> None:
    body = f'{{"config": {config}, "os": "linux", "architecture": "arm64", "rootfs": {{}}}}'
    (found,) = commands_of(parse_config(body.encode(), "it", 0), windows=windows)

    assert (found.words, found.places) == (words, places)


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ([], []),
        ([""], []),
        (["/bin/sh", "-c", "exec /app --x"], ["/bin/sh", "/app"]),
        (["bash", "-lc", "app"], ["bash", "app"]),
        (["sh", "-c", "A=1 app"], ["sh"]),
        (["sh", "-c", "app && other"], ["sh", "app"]),
        (["sh", "-c", "cd /srv && app"], ["sh"]),
        (["sh", "-c", "if [ -f x ]; then app; fi"], ["sh"]),
        (["sh", "script"], ["sh"]),
        (["tini", "-g", "--", "app", "--x"], ["tini", "app"]),
        (["/usr/bin/tini", "app"], ["/usr/bin/tini", "app"]),
        (["tini", "-g", "app"], ["tini"]),
        (["tini"], ["tini"]),
        (["dumb-init", "--", "sh", "-c", "exec app"], ["dumb-init", "sh", "app"]),
        (["tini", "--", "gosu", "nobody", "app", "--", "x"], ["tini", "gosu", "app", "x"]),
        (["tini", "app", "--", "x"], ["tini", "app", "x"]),
        (["gosu", "nobody", "app"], ["gosu", "app"]),
        (["su-exec", "nobody"], ["su-exec"]),
        (["tini"] * 9, ["tini"]),
        (
            ["tini", "gosu", "a", "dumb-init", "su-exec", "b", "app"],
            ["tini", "gosu", "dumb-init", "su-exec"],
        ),
        (["java", "--", "a", "--", "b"], ["java", "a"]),
        (["app", "--"], ["app"]),
    ],
)
def test_entrypoint_wrappers_are_followed(words: list[str], started: list[str]) -> None:
    body = json.dumps({"config": {"Entrypoint": words}}).encode()

    found = commands_of(parse_config(body, "it", None), windows=False)

    assert [command.words for command in found] == started
