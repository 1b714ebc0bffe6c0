"""Parsing of image configs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.oci.manifest import MAX_DOCUMENT, HistoryEntry, parse_config
from resolver.core.platforms.platform import Platform
from resolver.errors import BadDocument, LimitExceeded, UnsupportedDocument

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")


def config(**members: object) -> bytes:
    document: dict[str, Any] = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [str(ONE)]},
        **members,
    }
    return json.dumps(document).encode()


def refusal(body: bytes, layers: int | None = 1) -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        parse_config(body, "the config", layers)
    return caught.value


def test_image_config_fields_are_kept_as_written() -> None:
    run = {
        "User": "app",
        "WorkingDir": "/srv",
        "StopSignal": "SIGQUIT",
        "Env": ["B=2", "A=1"],
        "Entrypoint": ["/bin/x"],
        "Cmd": ["-v"],
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"b": "2", "a": "1"},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
        "ArgsEscaped": True,
        "OnBuild": None,
    }
    steps = [
        {"created": "t", "created_by": "RUN", "comment": "c", "author": "a", "empty_layer": True},
        {"created_by": "COPY", "empty_layer": None},
    ]
    body = config(
        variant="v2",
        created="2024-01-01T00:00:00Z",
        author="me",
        config=run,
        history=steps,
        docker_version="1",
        **{"os.version": "6", "os.features": ["f"]},
    )
    parsed = parse_config(body, "it", 1)
    assert parsed.platform == Platform("linux", "amd64", "v2", "6", ("f",))
    assert (parsed.os, parsed.architecture, parsed.variant) == ("linux", "amd64", "v2")
    assert (parsed.os_version, parsed.os_features) == ("6", ("f",))
    assert (parsed.created, parsed.author) == ("2024-01-01T00:00:00Z", "me")
    assert parsed.diff_ids == (ONE,)
    assert parsed.history == (
        HistoryEntry("t", "RUN", "a", "c", empty_layer=True),
        HistoryEntry(created_by="COPY"),
    )
    assert (parsed.user, parsed.working_dir, parsed.stop_signal) == ("app", "/srv", "SIGQUIT")
    assert (parsed.env, parsed.entrypoint, parsed.cmd) == (("B=2", "A=1"), ("/bin/x",), ("-v",))
    assert (parsed.exposed_ports, parsed.volumes) == (("443/tcp", "80/tcp"), ("/v",))
    assert parsed.labels == (("a", "1"), ("b", "2"))
    assert parsed.healthcheck == '{"Interval":5,"Test":["CMD","true"]}'


@pytest.mark.parametrize(
    "run", [None, {}, {"Env": None, "Cmd": None, "Labels": None, "User": None}]
)
def test_null_config_fields_count_as_absent(run: object) -> None:
    parsed = parse_config(config(config=run, history=None, created=None), "it", 1)
    assert (parsed.env, parsed.cmd, parsed.labels, parsed.user) == ((), (), (), "")
    assert (parsed.history, parsed.created, parsed.healthcheck) == ((), "", "")


@pytest.mark.parametrize("missing", ["os", "architecture"])
@pytest.mark.parametrize("value", [None, ""])
def test_config_without_os_or_architecture_has_no_platform(missing: str, value: str | None) -> None:
    parsed = parse_config(config(**{missing: value}), "it", 1)
    assert parsed.platform is None


def test_number_of_diff_ids_equals_number_of_layers() -> None:
    body = config(rootfs={"diff_ids": [str(ONE), str(TWO)]})
    assert parse_config(body, "it", 2).diff_ids == (ONE, TWO)
    assert parse_config(body, "it", None).diff_ids == (ONE, TWO)
    error = refusal(body, 1)
    assert (error.field, error.reason) == ("rootfs.diff_ids", "2 for 1 layers in the manifest")
    assert parse_config(config(rootfs={"diff_ids": None}), "it", 0).diff_ids == ()


@pytest.mark.parametrize("rootfs", [None, {}, {"type": "layers"}, {"diff_ids": None}])
def test_config_of_an_image_without_layers_may_have_a_null_rootfs(rootfs: object) -> None:
    parsed = parse_config(config(rootfs=rootfs), "it", 0)
    assert (parsed.diff_ids, parsed.platform) == ((), parse_config(config(), "it", 1).platform)


@pytest.mark.parametrize("name", ["Entrypoint", "Cmd"])
@pytest.mark.parametrize(
    ("written", "read"),
    [("/bin/app -v", ("/bin/app -v",)), ("", ()), (["a", "b"], ("a", "b")), (None, ())],
)
def test_config_command_is_a_string_or_a_list(
    name: str, written: object, read: tuple[str, ...]
) -> None:
    others = {"Shell": written, "OnBuild": written, "ArgsEscaped": None, "ExposedPorts": None}
    parsed = parse_config(config(config={name: written, **others}), "it", 1)
    assert (parsed.entrypoint if name == "Entrypoint" else parsed.cmd) == read


def test_empty_config_is_valid() -> None:
    parsed = parse_config(b"{}", "it", 3)
    assert (parsed.platform, parsed.diff_ids) == (None, ())


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"rootfs": None}, "rootfs.diff_ids"),
        ({"rootfs": []}, "rootfs"),
        ({"rootfs": {"diff_ids": "x"}}, "rootfs.diff_ids"),
        ({"rootfs": {"diff_ids": [1]}}, "rootfs.diff_ids[0]"),
        ({"rootfs": {"diff_ids": ["sha256:xyz"]}}, "rootfs.diff_ids[0]"),
        ({"rootfs": {"Diff_IDs": []}}, "rootfs.Diff_IDs"),
        ({"os": 1}, "os"),
        ({"architecture": ["amd64"]}, "architecture"),
        ({"variant": 8}, "variant"),
        ({"os.version": 10}, "os.version"),
        ({"os.features": {}}, "os.features"),
        ({"Architecture": "arm64"}, "Architecture"),
        ({"created": 0}, "created"),
        ({"author": []}, "author"),
        ({"history": {}}, "history"),
        ({"history": ["x"]}, "history[0]"),
        ({"history": [{"empty_layer": "yes"}]}, "history[0].empty_layer"),
        ({"history": [{"created_by": 1}]}, "history[0].created_by"),
        ({"config": []}, "config"),
        ({"config": {"Env": {}}}, "config.Env"),
        ({"config": {"Env": ["A=1", 2]}}, "config.Env[1]"),
        ({"config": {"Labels": []}}, "config.Labels"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels.a"),
        ({"config": {"ExposedPorts": ["80"]}}, "config.ExposedPorts"),
        ({"config": {"User": 0}}, "config.User"),
        ({"config": {"cmd": []}}, "config.cmd"),
    ],
)
def test_config_error_names_its_path(members: dict[str, object], field: str) -> None:
    assert refusal(config(**members)).field == field


def test_config_with_an_unsupported_layer_digest_is_unsupported() -> None:
    with pytest.raises(UnsupportedDocument) as caught:
        parse_config(config(rootfs={"diff_ids": ["md5:" + "a" * 32]}), "it", 1)
    assert caught.value.field == "rootfs.diff_ids[0]"


def test_config_size_is_limited() -> None:
    body = config()
    assert parse_config(body + b" " * (MAX_DOCUMENT - len(body)), "it", 1).platform
    with pytest.raises(LimitExceeded):
        parse_config(body + b" " * (MAX_DOCUMENT + 1 - len(body)), "it", 1)
