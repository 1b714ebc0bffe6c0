"""Mirror configuration from files and options, and which of them decides."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.registry.endpoints import (
    BY_DIGEST,
    EVERYTHING,
    OF_DIGEST,
    Ability,
    ClientFiles,
    HostChoice,
    Pulls,
    matches_prefix,
    rewrite,
)
from resolver.core.results.events import Warned, ignore
from resolver.errors import BadFile, InvalidConfiguration, RegistryBlocked, ResolverError
from resolver.sources.http.urls import BadUrl
from resolver.sources.mirrors.files import (
    MAX_FILE,
    configuration_files,
    find_certificates,
    may_block,
    mentions_registries,
    read_certificates,
    read_file,
)
from resolver.sources.mirrors.formats import (
    MAX_JOBS,
    MAX_RATE,
    MAX_TIMEOUT,
    choose,
    endpoint_at,
    find_folder,
    parse_config,
    parse_hosts,
    parse_rules,
    read_hosts,
    seconds,
)
from resolver.sources.mirrors.hosts import Hosts, config_file

if TYPE_CHECKING:
    from resolver.core.results.events import Event

HUB, UBUNTU = "docker.io", "library/ubuntu"
TOML = Path("/certs.d/docker.io/hosts.toml")


def hosts_toml(text: str, registry: str = HUB) -> HostChoice:
    return parse_hosts(text.encode(), TOML, registry, UBUNTU)


def where(choice: HostChoice) -> list[str]:
    """Return the path of the manifest `1` at each endpoint."""
    return [
        f"{each.settings.scheme}|{each.host}{each.prefix}/{each.repository}"
        + (f"?ns={each.namespace}" if each.namespace else "")
        for each in choice.endpoints
    ]


# --- hosts.toml ------------------------------------------------------------------------------


def test_hosts_toml_keeps_its_order_with_the_server_last() -> None:
    choice = hosts_toml("""
        server = "registry-1.docker.io"
        [host."https://b.test"]
        [host."http://a.test:8080/x/"]
        [host."https://c.test/v2/hub"]
          override_path = true
        [host."d.test/v2"]
        """)
    assert where(choice) == [
        "https|b.test/v2/library/ubuntu?ns=docker.io",
        "http|a.test:8080/x/v2/library/ubuntu?ns=docker.io",
        "https|c.test/v2/hub/library/ubuntu?ns=docker.io",
        "https|d.test/v2/library/ubuntu?ns=docker.io",
        "https|registry-1.docker.io/v2/library/ubuntu",
    ]
    assert [each.credentials for each in choice.endpoints] == [
        "b.test", "a.test:8080", "c.test", "d.test", "docker.io",
    ]  # fmt: skip
    assert (choice.source, choice.form) == (str(TOML), "hosts.toml")


@pytest.mark.parametrize(
    ("url", "override", "expected"),
    [
        ("https://m.test", False, "/v2/library/ubuntu"),
        ("https://m.test/", False, "/v2/library/ubuntu"),
        ("https://m.test/v2", False, "/v2/library/ubuntu"),
        ("https://m.test/a/../b", False, "/b/v2/library/ubuntu"),
        ("https://m.test/v2/hub", False, "/v2/hub/v2/library/ubuntu"),
        ("https://m.test/v2/hub", True, "/v2/hub/library/ubuntu"),
        ("https://m.test", True, "/library/ubuntu"),
        ("https://m.test/x", True, "/x/library/ubuntu"),
    ],
)
def test_hosts_toml_appends_v2_unless_override_path(
    url: str, override: bool, expected: str
) -> None:
    found = endpoint_at(url, HUB, UBUNTU, whole_path=override)
    assert f"{found.prefix}/{found.repository}" == expected


def test_path_after_v2_is_part_of_the_token_scope() -> None:
    found = endpoint_at("https://harbor.test/v2/hub", HUB, UBUNTU, whole_path=True)
    assert (found.prefix, found.repository) == ("/v2", "hub/library/ubuntu")


@pytest.mark.parametrize("url", ["ftp://m.test", "https://u:p@m.test", "https://m.test/?a=b", ""])
def test_invalid_endpoint_is_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        endpoint_at(url, HUB, UBUNTU)


def test_every_field_of_hosts_toml_is_read() -> None:
    choice = hosts_toml("""
        ca = "server.pem"
        skip_verify = true
        [host."https://m.test"]
          capabilities = ["pull", "referrers", "push"]
          ca = ["a.pem", "/b.pem"]
          client = [["c.cert", "c.key"], "both.pem"]
          dial_timeout = "1m1.5s"
          [host."https://m.test".header]
            X-One = "1"
            X-Many = ["2", "3"]
        """)
    mirror, server = choice.endpoints
    assert mirror.abilities == {Ability.PULL, Ability.REFERRERS}
    assert mirror.settings.ca == ("/certs.d/docker.io/a.pem", "/b.pem")
    assert mirror.settings.clients == (
        ClientFiles("/certs.d/docker.io/c.cert", "/certs.d/docker.io/c.key"),
        ClientFiles("/certs.d/docker.io/both.pem"),
    )
    assert mirror.settings.headers == (("X-One", "1"), ("X-Many", "2"), ("X-Many", "3"))
    assert mirror.settings.connect_timeout == 61.5
    assert server.settings.ca == ("/certs.d/docker.io/server.pem",)
    assert server.settings.skip_verify
    assert (server.host, server.is_upstream) == ("registry-1.docker.io", True)
    assert "X-One" not in repr(choice)


def test_without_capabilities_an_endpoint_can_do_everything() -> None:
    choice = hosts_toml('[host."https://m.test"]\ncapabilities = []\n[host."https://n.test"]')
    assert [each.abilities for each in choice.endpoints] == [EVERYTHING] * 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server = 1", "server"),
        ('server = "ftp://x"', "server"),
        ("server = [", "end of document"),
        ("\nserver = ]", "line 2, column 10"),
        ("\n[host]\na = 1", "host.a"),
        ("host = 1", "host"),
        ('[host."u:p@x.test"]', "host.***"),
        ('[host."https://m.test"]\ncapabilities = ["fly"]', "host.https://m.test.capabilities"),
        ('[host."https://m.test"]\noverride_path = "yes"', "host.https://m.test.override_path"),
        ('[host."https://m.test"]\nclient = [["a"]]', "host.https://m.test.client"),
        ('[host."https://m.test"]\nclient = 7', "host.https://m.test.client"),
        ('[host."https://m.test"]\nca = [1]', "host.https://m.test.ca"),
        ('dial_timeout = "soon"', "dial_timeout"),
        ('dial_timeout = "0s"', "dial_timeout"),
        ("header = 1", "header"),
        ('[header]\n"a b" = "c"', "header"),
        ('[header]\nA = "secret\\r\\nB: c"', "header.A"),
    ],
)
def test_invalid_hosts_toml_error_has_its_position(text: str, place: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        hosts_toml(text)
    assert (caught.value.place, caught.value.field) == (str(TOML), place)
    assert "secret" not in str(caught.value)


def test_durations_are_parsed_like_go() -> None:
    assert [seconds(text) for text in ("3s", "500ms", "1h2m", ".5s", "2.s")] == [
        3.0, 0.5, 3720.0, 0.5, 2.0,
    ]  # fmt: skip
    assert [seconds(text) for text in ("", "3", "s", "-1s", "1 s", "٣s")] == [None] * 6


def test_hosts_folder_with_the_port_comes_first(
    tmp_path: Path,
) -> None:
    roots = (tmp_path / "one", tmp_path / "two")
    names = ["two/_default", "one/_default", "one/h.test:5000", "one/h.test_5000_"]
    assert find_folder(roots, "h.test:5000") is None
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        assert find_folder(roots, "h.test:5000") == tmp_path / name
    assert find_folder(roots, "h.test") == tmp_path / "one/_default"


def test_folder_without_hosts_toml_holds_certificates(tmp_path: Path) -> None:
    for name in ("ca.crt", "me.cert", "me.key", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub.crt").mkdir()
    [only] = read_hosts(tmp_path, "h.test", "a").endpoints
    assert only.is_upstream
    assert only.settings.ca == (str(tmp_path / "ca.crt"),)
    assert only.settings.clients == (
        ClientFiles(str(tmp_path / "me.cert"), str(tmp_path / "me.key")),
    )


# --- certificates ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "missing"), [("a.cert", "a.key"), ("a.key", "a.cert")])
def test_certificate_without_its_key_is_an_error(tmp_path: Path, name: str, missing: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InvalidConfiguration, match=f"`{missing}` is missing"):
        read_certificates(tmp_path)


def test_first_existing_certificate_folder_counts(tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b")
    assert find_certificates(folders, "h.test") == (((), ()), "")
    (tmp_path / "b/h.test").mkdir(parents=True)
    (tmp_path / "b/h.test/x.crt").write_text("")
    (ca, _), place = find_certificates(folders, "h.test")
    assert ca == (str(tmp_path / "b/h.test/x.crt"),)
    assert place == str(tmp_path / "b/h.test")


# --- registries.conf -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "name", "expected"),
    [
        ("example.com", "example.com/a", True),
        ("example.com", "example.com:5000/a", False),
        ("example.com", "example.community/a", False),
        ("example.com:5000", "example.com:5000/a", True),
        ("example.com/a", "example.com/a", True),
        ("example.com/a", "example.com/a:1", True),
        ("example.com/a", "example.com/a@sha256:0", True),
        ("example.com/a", "example.com/ab", False),
        ("example.com/a:1", "example.com/a:1", True),
        ("example.com/a:1", "example.com/a:12", False),
        ("*.example.com", "a.example.com/x", True),
        ("*.example.com", "a.b.example.com:5000/x", True),
        ("*.example.com", "example.com/x", False),
        ("*.example.com", ".example.com/x", False),
        ("*.example.com", "aexample.com/x", False),
        ("*.example.com", "other.test/a.example.com", False),
        ("", "example.com/a", False),
    ],
)
def test_registries_conf_prefix_matches_at_name_boundaries(
    prefix: str, name: str, expected: bool
) -> None:
    assert matches_prefix(name, prefix) is expected


WORDS = st.text("ab.", min_size=1, max_size=4)
NAMES = st.builds(
    lambda host, port, path, tail: f"{host}{port}/{'/'.join(path)}{tail}",
    WORDS,
    st.sampled_from(["", ":5"]),
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from(["", ":a", "@b"]),
)


@given(NAMES, NAMES)
def test_prefix_matches_whole_name_components(name: str, prefix: str) -> None:
    rest = name[len(prefix) :]
    whole = name.startswith(prefix) and (not rest or rest[0] in "/@:")
    assert matches_prefix(name, prefix) is whole


@given(NAMES, WORDS)
def test_wildcard_matches_subdomains_only(name: str, domain: str) -> None:
    host = name.partition("/")[0].partition(":")[0]
    below = host.endswith(f".{domain}") and host != f".{domain}"
    assert matches_prefix(name, f"*.{domain}") is below


def test_prefix_is_replaced_by_its_location() -> None:
    assert rewrite("docker.io/library/a", "docker.io", "m.test/hub") == "m.test/hub/library/a"
    assert rewrite("a.b.test:5/x", "*.b.test", "m.test") == "m.test/x"
    assert rewrite("a.b.test/x", "*.b.test", "") == "a.b.test/x"


def rules(text: str, events: list[Event] | None = None) -> HostChoice | None:
    observe = ignore if events is None else events.append
    return choose(parse_rules(text.encode(), "/r.conf", observe), HUB, UBUNTU)


def test_longest_prefix_wins() -> None:
    choice = rules("""
        [[registry]]
        location = "docker.io"
        [[registry]]
        prefix = "docker.io/library"
        location = "long.test/hub"
        insecure = true
        [[registry.mirror]]
        location = "m.test/x/"
        [[registry.mirror]]
        location = "n.test"
        pull-from-mirror = "tag-only"
        """)
    assert choice is not None
    assert where(choice) == ["|m.test/v2/x/ubuntu", "|n.test/v2/ubuntu", "|long.test/v2/hub/ubuntu"]
    assert [each.pulls for each in choice.endpoints] == [Pulls.ALL, Pulls.BY_TAG, Pulls.ALL]
    assert [each.abilities for each in choice.endpoints] == [EVERYTHING] * 3
    assert choice.endpoints[2].settings.plain_too
    assert choice.endpoints[2].settings.skip_verify
    assert not choice.endpoints[0].settings.plain_too


def test_mirror_by_digest_only_applies_to_all_mirrors_of_a_registry() -> None:
    choice = rules("""
        [[registry]]
        location = "docker.io"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.test"
        """)
    assert choice is not None
    assert [each.abilities for each in choice.endpoints] == [OF_DIGEST, EVERYTHING]
    assert [each.pulls for each in choice.endpoints] == [Pulls.BY_DIGEST, Pulls.ALL]
    assert choice.endpoints[1].host == "registry-1.docker.io"


def test_blocked_location_keeps_its_mirrors_or_is_closed() -> None:
    text = '[[registry]]\nlocation = "docker.io"\nblocked = true\n'
    closed = rules(text)
    mirrored = rules(f'{text}[[registry.mirror]]\nlocation = "m.test"\n')
    assert closed is not None
    assert mirrored is not None
    assert (closed.is_closed, closed.endpoints) == (True, ())
    assert (mirrored.is_closed, where(mirrored)) == (False, ["|m.test/v2/library/ubuntu"])


def test_registries_conf_without_a_rule_changes_nothing() -> None:
    assert rules("") is None
    assert rules('unqualified-search-registries = ["a.test"]\n[aliases]\na = "b.test/a"') is None


def test_first_of_two_equal_prefixes_counts() -> None:
    events: list[Event] = []
    text = '[[registry]]\nprefix = "docker.io"\nlocation = "{}.test"\n'
    choice = rules(text.format("a") + text.format("b"), events)
    assert choice is not None
    assert where(choice) == ["|a.test/v2/library/ubuntu"]
    assert [type(event) for event in events] == [Warned]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[registries.search]\nregistries = []", "registries"),
        ("registry = 1", "registry"),
        ("registry = [1]", "registry"),
        ("[[registry]]\nblocked = true", "registry[0].prefix"),
        ('[[registry]]\nprefix = "a.test"', "registry[0].location"),
        ('[[registry]]\nprefix = "*.a.test/x"\nlocation = "b.test"', "registry[0].prefix"),
        ('[[registry]]\nprefix = "a.*.test"\nlocation = "b.test"', "registry[0].prefix"),
        ('[[registry]]\nlocation = "https://a.test"', "registry[0].location"),
        ('[[registry]]\nlocation = "a.test"\nblocked = "no"', "registry[0].blocked"),
        (
            '[[registry]]\nlocation = "a.test"\n[[registry.mirror]]',
            "registry[0].mirror[0].location",
        ),
        (
            (
                '[[registry]]\nlocation = "a.test"\nmirror-by-digest-only = true\n'
                '[[registry.mirror]]\nlocation = "b.test"\npull-from-mirror = "all"'
            ),
            "registry[0].mirror[0].pull-from-mirror",
        ),
        (
            (
                '[[registry]]\nlocation = "a.test"\n[[registry.mirror]]\n'
                'location = "b.test"\npull-from-mirror = "never"'
            ),
            "registry[0].mirror[0].pull-from-mirror",
        ),
    ],
)
def test_invalid_registries_conf_error_has_its_position(text: str, field: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        rules(text)
    assert (caught.value.place, caught.value.field) == ("/r.conf", field)


@pytest.mark.parametrize("location", ["a b.test", "-", "m.test/a?b", "m.test/a//b", "m.test/ä"])
def test_invalid_location_is_refused(location: str) -> None:
    with pytest.raises(InvalidConfiguration):
        rules(f'[[registry]]\nprefix = "docker.io"\nlocation = "{location}"')


def test_user_file_replaces_the_system_file_and_a_named_one_both(tmp_path: Path) -> None:
    home, system = tmp_path / "home", tmp_path / "etc"
    for folder in (home / ".config/containers", system / "containers"):
        drop_ins = folder / "registries.conf.d"
        drop_ins.mkdir(parents=True)
        for name in ("b.conf", "a.conf", "c.txt"):
            (drop_ins / name).write_text("")

    def files(**environment: str) -> list[str]:
        found = configuration_files(environment, home, system)
        return [str(file.relative_to(tmp_path)) for file in found]

    systems = [f"etc/containers/registries.conf.d/{name}.conf" for name in "ab"]
    users = [f"home/.config/containers/registries.conf.d/{name}.conf" for name in "ab"]
    assert files() == ["etc/containers/registries.conf", *systems, *users]
    named = str(tmp_path / "named.conf")
    for name in ("CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH"):
        assert files(**{name: named}) == ["named.conf", *systems, *users]
    (home / ".config/containers/registries.conf").write_text("")
    assert files() == ["home/.config/containers/registries.conf", *users]


def test_drop_in_replaces_a_table_of_the_same_prefix(tmp_path: Path) -> None:
    folder = tmp_path / "etc/containers/registries.conf.d"
    folder.mkdir(parents=True)
    (folder.parent / "registries.conf").write_text(
        '[[registry]]\nprefix = "a.test"\nlocation = "old.test"\nblocked = true\n'
    )
    (folder / "x.conf").write_text('[[registry]]\nprefix = "a.test"\nlocation = "new.test"\n')
    found = Hosts({}, None, (), ignore, system=tmp_path / "etc").open("a.test", "b")
    assert [each.host for each in found.endpoints] == ["new.test"]
    assert found.source == str(folder / "x.conf")


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        (b'[aliases]\n"registry.test/a" = "b.test/a"\n# [[registry]]\n', False),
        (b"[[registry]]", True),
        (b' [[ "registry" ]]', True),
        (b"registry = []", True),
        (b"[registries.search]", True),
    ],
)
def test_aliases_file_is_not_parsed(text: bytes, speaks: bool) -> None:
    assert mentions_registries(text) is speaks


def test_file_that_may_block_is_found_without_reading(tmp_path: Path) -> None:
    file = tmp_path / "r.conf"
    assert not may_block([file])
    file.write_text("# blocked = true\n")
    assert not may_block([file])
    file.write_text("[[registry]]\nlocation = 'a'\nblocked = true\n")
    assert may_block([file])


# --- config.yaml -----------------------------------------------------------------------------

CONFIG = b"""\
hosts:
  docker.io:
    mirrors:
      - https://mirror.test
      - url: https://harbor.test/v2/hub
        tags: true
        timeout: 5
    rate: 20
  mirror.test:
    ca: [corp.pem, /abs.pem]
    client-certificate: me.pem
    client-key: me.key
    jobs: 4
    timeout: 9
  registry.test:5000:
    plain-http: true
"""


def configured(folder: Path, text: bytes = CONFIG, **environment: str) -> Hosts:
    path = folder / "config.yaml"
    path.write_bytes(text)
    return Hosts({"RESOLVER_CONFIG": str(path), **environment}, None, (), ignore, system=folder)


def test_config_yaml_sets_options_per_host(tmp_path: Path) -> None:
    choice = configured(tmp_path).open(HUB, UBUNTU)
    first, second, last = choice.endpoints
    assert (choice.form, choice.source) == ("config.yaml", str(tmp_path / "config.yaml"))
    assert where(choice) == [
        "https|mirror.test/v2/library/ubuntu?ns=docker.io",
        "https|harbor.test/v2/hub/library/ubuntu?ns=docker.io",
        "|registry-1.docker.io/v2/library/ubuntu",
    ]
    assert (first.abilities, second.abilities) == (BY_DIGEST, EVERYTHING)
    assert first.settings.ca == (str(tmp_path / "corp.pem"), "/abs.pem")
    assert first.settings.clients == (
        ClientFiles(str(tmp_path / "me.pem"), str(tmp_path / "me.key")),
    )
    assert (first.settings.jobs, first.settings.read_timeout) == (4, 9)
    assert second.settings.read_timeout == 5
    assert (last.settings.rate, last.settings.jobs) == (20, None)
    [plain] = configured(tmp_path).open("registry.test:5000", "a").endpoints
    assert plain.settings.scheme == "http"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"host: {}", "1:1"),
        (b"hosts: []", "1:8"),
        (b"hosts:\n  a.test:\n    mirror: []", "3:5"),
        (b"hosts:\n  'a test': {}", "2:13"),
        (b"hosts:\n  a.test:\n    rate: 0", "3:11"),
        (b"hosts:\n  a.test:\n    rate: fast", "3:11"),
        (b"hosts:\n  a.test:\n    plain-http: yes", "3:17"),
        (b"hosts:\n  a.test:\n    mirrors: [ftp://b.test]", "3:15"),
        (b"hosts:\n  a.test:\n    mirrors: [{tags: true}]", "3:15"),
        (b"hosts:\n  a.test:\n    client-key: x", "3:17"),
        (b"hosts: {a.test: {}, a.test: {}}", "1:21"),
        (b"hosts: [", "1:9"),
    ],
)
def test_malformed_config_is_an_error_with_line_and_column(text: bytes, place: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse_config(text, "/c.yaml")
    assert str(caught.value).startswith(f"/c.yaml:{place}: ")


def test_misspelled_field_gets_a_suggestion() -> None:
    with pytest.raises(BadFile) as caught:
        parse_config(b"hosts:\n  a.test:\n    mirrrors: []", "/c.yaml")
    assert caught.value.hints() == ("did you mean `mirrors`?",)


@pytest.mark.parametrize(
    ("field", "most"), [("rate", MAX_RATE), ("jobs", MAX_JOBS), ("timeout", MAX_TIMEOUT)]
)
def test_config_yaml_numbers_are_limited(field: str, most: int) -> None:
    def read(value: int) -> object:
        return parse_config(f"hosts: {{a.test: {{{field}: {value}}}}}".encode(), "/c.yaml")

    assert read(most)
    with pytest.raises(BadFile, match=f"it must be from 1 to {most}"):
        read(most + 1)


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"hosts:\n"])
def test_empty_config_is_valid(text: bytes) -> None:
    assert parse_config(text, "/c.yaml") == {}


# --- precedence -------------------------------------------------------------------------


def test_first_source_that_names_a_registry_decides(tmp_path: Path) -> None:
    system = tmp_path / "etc"
    (system / "containers").mkdir(parents=True)

    def found(*mirrors: str) -> tuple[str, list[str]]:
        environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        choice = Hosts(environment, None, mirrors, ignore, system=system).open("a.test", "b")
        return choice.form, [each.host for each in choice.endpoints]

    assert found() == ("", ["a.test"])
    (system / "containers/registries.conf").write_text(
        '[[registry]]\nlocation = "a.test"\n[[registry.mirror]]\nlocation = "conf.test"\n'
    )
    assert found() == ("registries.conf", ["conf.test", "a.test"])
    folder = system / "containerd/certs.d/a.test"
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text('[host."https://toml.test"]')
    assert found() == ("hosts.toml", ["toml.test", "a.test"])
    config = tmp_path / "config/resolver/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("hosts: {a.test: {mirrors: [https://yaml.test]}}")
    assert found() == ("config.yaml", ["yaml.test", "a.test"])
    assert found("a.test=https://one.test", "b.test=https://no.test", "a.test=two.test#tags") == (
        "option",
        ["one.test", "two.test", "a.test"],
    )


def test_docker_certificates_are_used_without_others(tmp_path: Path) -> None:
    folder = tmp_path / "docker/certs.d/docker.io"
    folder.mkdir(parents=True)
    (folder / "corp.crt").write_text("")
    [hub] = Hosts({}, None, (), ignore, system=tmp_path).open(HUB, UBUNTU).endpoints
    assert hub.settings.ca == (str(folder / "corp.crt"),)
    text = b"hosts: {docker.io: {ca: own.pem}}"
    [hub] = configured(tmp_path, text).open(HUB, UBUNTU).endpoints
    assert hub.settings.ca == (str(tmp_path / "own.pem"),)


def test_blocked_registry_is_still_shown(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/registries.conf").write_text(
        '[[registry]]\nlocation = "a.test"\nblocked = true\n'
    )
    hosts = Hosts({}, None, (), ignore, system=tmp_path)
    assert hosts.choose("a.test", "b").blocked
    with pytest.raises(RegistryBlocked, match=r"`a\.test/b` is blocked by `"):
        hosts.open("a.test", "b")


def test_named_config_must_exist(tmp_path: Path) -> None:
    missing = {"RESOLVER_CONFIG": str(tmp_path / "none.yaml")}
    with pytest.raises(InvalidConfiguration, match="RESOLVER_CONFIG"):
        Hosts(missing, None, (), ignore, system=tmp_path).open("a.test", "b")


def test_config_yaml_is_where_platformdirs_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.delenv("XDG_CONFIG_HOME")
    home = Path.home()
    expected = platformdirs.user_config_path("resolver") / "config.yaml"
    assert config_file({}, home) == (expected, False)
    assert config_file({}, None) == (None, False)
    assert config_file({"XDG_CONFIG_HOME": "/x"}, home) == (Path("/x/resolver/config.yaml"), False)
    monkeypatch.setattr("sys.platform", "darwin")
    assert config_file({}, home) == (expected, False)


def test_invalid_mirror_url_is_reported() -> None:
    with pytest.raises(InvalidConfiguration, match="--mirror"):
        Hosts({}, None, ("a.test=ftp://x",), ignore, system=Path("/nowhere")).open("a.test", "b")


def test_size_of_a_config_file_is_limited(tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_bytes(b"#" * MAX_FILE)
    assert read_file(file) == b"#" * MAX_FILE
    file.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(InvalidConfiguration, match=f"larger than {MAX_FILE} bytes"):
        read_file(file)
    with pytest.raises(InvalidConfiguration):
        read_file(tmp_path)


# --- properties -------------------------------------------------------------------------

SAMPLES = [
    b'server = "https://a.test"\n[host."https://m.test"]\ncapabilities = ["pull"]\nca = "x"\n',
    b'[[registry]]\nprefix = "*.a.test"\nlocation = "b/x"\n[[registry.mirror]]\nlocation = "c"',
    CONFIG,
    b"a = " + b"[" * 2_000,
    b"a = " + b"9" * 5_000,
    b"\xff\xfe",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Change some bytes of a valid file."""
    body = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


@given(mutated())
def test_any_file_gives_a_configuration_error(body: bytes) -> None:
    with contextlib.suppress(ResolverError):
        parse_hosts(body, TOML, HUB, UBUNTU)
    with contextlib.suppress(ResolverError):
        choose(parse_rules(body, "/r.conf", ignore), "x.a.test", UBUNTU)
    with contextlib.suppress(ResolverError):
        parse_config(body, "/c.yaml")


# --- secrets in the wrong place ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '[[registry]]\nlocation = "u:S3cret@m.test"\n',
        '[[registry]]\nprefix = "u:S3cret@x.test"\nlocation = "m.test"\n',
        '[[registry]]\nlocation = "x.test"\nmirror = [{location = "u:S3cret@m.test/x"}]\n',
    ],
)
def test_login_in_registries_conf_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        parse_rules(text.encode(), "/r.conf", ignore)

    assert "it carries a user name or password" in str(refused.value)
    assert "S3cret" not in str(refused.value)


def test_registries_conf_prefix_may_end_with_a_digest() -> None:
    digest = f"sha256:{'0' * 64}"
    text = f'[[registry]]\nprefix = "x.test/app@{digest}"\nlocation = "m.test/app"\n'
    (rule,) = parse_rules(text.encode(), "/r.conf", ignore)

    assert rule.prefix.endswith(digest)


def test_login_in_a_config_yaml_host_is_refused_and_not_shown() -> None:
    with pytest.raises(BadFile) as refused:
        parse_config(b"hosts:\n  u:S3cret@x.test:\n    jobs: 1\n", "/c.yaml")

    assert "carries a user name or password" in str(refused.value)
    assert "S3cret" not in str(refused.value)
