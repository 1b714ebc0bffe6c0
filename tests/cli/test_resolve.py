"""`resolver resolve`, as a person sees it: status, stdout, stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.platforms.platform import Platform
from resolver.demo import samples
from resolver.errors import InvalidPlatform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_resolve_prints_both_digests_with_labels(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm64/v8 (normalised; asked for linux/arm64)
manifest sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes
--- stderr
""")


def test_resolve_explain_lists_every_entry_and_its_reason(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "--explain")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm/v7 (fallback; asked for linux/arm/v8)
manifest sha256:e9c938fb2564d82d2eaa50a8e621dd74fe62d5d73b56f603d9c0d4cf60ca6744
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes

#  PLATFORM                       DIGEST               WHY
1  linux/amd64                    sha256:311923c08153  other architecture
2  linux/arm64/v8                 sha256:8d3661f10977  other architecture
3  linux/arm/v7                   sha256:e9c938fb2564  chosen
4  windows/amd64:10.0.20348.2700  sha256:afae86adc642  other operating system
5  windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7  other operating system
6  unknown/unknown                sha256:708e4d188822  attestation, not an image
7  unknown/unknown                sha256:ba224a2ffee7  attestation, not an image
8  unknown/unknown                sha256:374989eeaccf  attestation, not an image
--- stderr
warning: `HOST:PORT/demo/app:1.0` is not offered for `linux/arm/v8`; took `linux/arm/v7`, which it can run (`--exact` rejects this)
""")


def test_resolve_missing_platform_lists_offered_platforms(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/s390x")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/s390x`
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_resolve_explains_windows_builds_that_are_too_old(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "windows/amd64:ltsc2019")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `windows/amd64:10.0.17763`
hint: `windows/amd64:10.0.20348.2700` does not match: Windows build 20348 is newer than the host's 17763
hint: `windows/amd64:10.0.26100.1742` does not match: Windows build 26100 is newer than the host's 17763
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_exact_refuses_a_fallback(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm/v8", "--exact")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/arm/v8`
hint: `linux/arm/v7` does not match: arm/v7 can stand in for arm/v8, but is not exact
hint: it is offered for `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`, `windows/amd64:10.0.26100.1742`
""")


def test_resolve_single_image_rejects_another_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/single:1.0", "-p", "linux/arm64")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/single:1.0` is not offered for `linux/arm64`
hint: it is offered for `linux/amd64`
""")


def test_resolve_verify_reports_an_index_with_a_false_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/liar:1.0", "-p", "linux/arm64", "--verify")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/liar:1.0
platform linux/arm64/v8 (normalised; asked for linux/arm64)
manifest sha256:4d002f6fbb5528e9178f7db899179dfac3f41289b7606844aa26f72b55e52e57
index    sha256:b18a87ff50801f322595c83e1fef64e13ec0303aa779e7e293d521eb29e2f780
type     application/vnd.oci.image.manifest.v1+json
size     860 bytes
--- stderr
warning: `HOST:PORT/demo/liar:1.0` lists `sha256:4d002f6fbb5528e9178f7db899179dfac3f41289b7606844aa26f72b55e52e57` as `linux/arm64/v8`, but its config says `linux/amd64`
""")


def test_resolve_strict_rejects_an_index_with_a_false_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/liar:1.0", "-p", "linux/arm64", "--strict")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/liar:1.0` is listed as `linux/arm64/v8`, but its config says `linux/amd64`
hint: tell the publisher; without `--strict` this is a warning
""")


def test_resolve_several_prints_a_line_each_and_the_worst_status(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing", "2.0")]

    seen = run("resolve", *names, "-p", "linux/amd64,linux/arm64")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede  linux/amd64                    exact       HOST:PORT/demo/app:1.0
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a  linux/arm64/v8                 normalised  HOST:PORT/demo/app:1.0
error: manifest-not-found                                                linux/amd64                    -           HOST:PORT/demo/app:missing
error: manifest-not-found                                                linux/arm64                    -           HOST:PORT/demo/app:missing
sha256:96959fcc8122cc3bc14a294d7872ba6975843302c95228df2bc66faec674a90d  linux/amd64                    exact       HOST:PORT/demo/app:2.0
sha256:327a3a89fb99230e60874958091495670743250edea4791899899865890ea9ab  linux/arm64/v8                 normalised  HOST:PORT/demo/app:2.0
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:missing` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:missing` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
note: resolved 4 of 6, 2 failed
""")


def test_resolve_verify_tag_notes_a_reference_without_a_tag(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "--verify-tag", "--format", "digest")

    assert seen.status == 0
    assert seen.stderr == snapshot("""\
warning: `HOST:PORT/demo/app:1.0` is not `name:tag@digest`, so there is no tag to verify
""")


def test_resolve_several_in_markdown_includes_failures(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/app:{tag}" for tag in ("9", "1.0")]

    seen = run("resolve", *names, "-p", "linux/amd64", "--format", "markdown")

    assert seen.status == 3
    assert seen.stdout.splitlines()[:7] == snapshot(
        [
            '**resolved 1 of 2, 1 failed**',
            "",
            '**images**',
            '',
            '| image | platform | grade | digest |',
            '| --- | --- | --- | --- |',
            (
                '| `HOST:PORT/demo/app:9` | `linux/amd64` | error: manifest-not-found | - |'
            ),
        ]
    )


def test_resolve_several_in_html_with_reasons_is_refused(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app"

    assert str(run("resolve", f"{name}:9", f"{name}:1.0", "--format", "html")) == snapshot("""\
status: 3
--- stdout
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src &#x27;none&#x27;; style-src &#x27;sha256-zcC4Ld2uGZM+TEiBaht1OTNaVUFmogRKoR9gNAyyNdA=&#x27;; img-src data:; base-uri &#x27;none&#x27;; form-action &#x27;none&#x27;">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>resolved 1 of 2, 1 failed</title>
<style>
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1b1f24; --quiet: #535c66; --line: #d3d9e0; --raised: #f5f7f9;
  --link: #0a58a3; --own: #0a66b8; --shared: #8a5a00; --alarm: #a8261c;
  --heat-0: #ffffff; --heat-1: #eaf3fb; --heat-2: #d2e6f7; --heat-3: #b5d5f0;
  --heat-4: #96c2e8; --heat-5: #78aede;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181d; --text: #e6e9ec; --quiet: #a5aeb8; --line: #3a424b; --raised: #1d232a;
    --link: #7cbcf5; --own: #4c9fe0; --shared: #d9a441; --alarm: #ff9c92;
    --heat-0: #14181d; --heat-1: #172635; --heat-2: #19344e; --heat-3: #1b4266;
    --heat-4: #1c4f7e; --heat-5: #1d5b94;
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.5 system-ui, sans-serif; background: var(--ground); color: var(--text); }
body { margin: 0 auto; max-width: 80rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px;
}
.skip { position: absolute; left: -100rem; }
.skip:focus { position: static; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
nav a { display: inline-block; padding: .25rem 0; }
code, .number, td.right { font-variant-numeric: tabular-nums; }
code { font-family: ui-monospace, "Liberation Mono", monospace; font-size: .875em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 1rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; grid-column: 2; }
p.note, .legend { color: var(--quiet); margin: .25rem 0 .75rem; }
ul.reasons { border-left: 4px solid var(--alarm); list-style: none; padding: 0 1rem; }
ul.reasons strong { color: var(--alarm); }
.scroll {
  position: relative; overflow-x: auto; margin: .75rem 0;
  border: 1px solid var(--line); border-radius: 6px;
}
table { border-collapse: collapse; min-width: 100%; font-size: .9rem; }
td, tbody th { overflow-wrap: anywhere; }
caption { text-align: left; padding: .6rem .75rem; font-weight: 600; }
caption span {
  display: block; position: sticky; left: .75rem; width: max-content;
  max-width: calc(100vw - 4rem);
}
details > .scroll caption {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
th, td {
  text-align: left; vertical-align: top; padding: .4rem .75rem;
  border-top: 1px solid var(--line);
}
thead th { color: var(--quiet); font-weight: 600; background: var(--raised); }
thead th { overflow-wrap: normal; }
td.nowrap code, td.right { white-space: nowrap; }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--ground); }
.right { text-align: right; white-space: nowrap; }
tbody th.nowrap { min-width: 8rem; }
.value { min-width: 8rem; }
.step { min-width: 12rem; max-width: 40rem; }
.quiet { color: var(--quiet); }
.differs { font-weight: 700; color: var(--alarm); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; }
details .scroll { border: 0; margin: 0; border-radius: 0 0 6px 6px; }
details > p, details > h3 { margin: .75rem; }
summary { cursor: pointer; padding: .6rem .75rem; }
td details, th details { border: 0; margin: 0; }
td details summary, th details summary { padding: 0; }
.bars { list-style: none; padding: 0; margin: .75rem 0; }
.bars li {
  display: grid; grid-template-columns: minmax(8rem, 18rem) 1fr 6rem; gap: .75rem;
  align-items: center; padding: .2rem 0;
}
.bars .number { text-align: right; white-space: nowrap; }
svg.bar { display: block; width: 100%; height: 1.25rem; }
td svg.bar { min-width: 8rem; }
svg.key { width: 1.25rem; height: .8rem; margin-right: .3rem; }
.own { fill: var(--own); }
.shared { fill: url(#hatch); }
.hatch { stroke: var(--shared); stroke-width: 5; }
.hatched { fill: var(--ground); }
.cut { stroke: var(--ground); stroke-width: 2; }
.legend span { display: inline-block; margin-right: 1.25rem; }
.heat-0 { background: var(--heat-0); } .heat-1 { background: var(--heat-1); }
.heat-2 { background: var(--heat-2); } .heat-3 { background: var(--heat-3); }
.heat-4 { background: var(--heat-4); } .heat-5 { background: var(--heat-5); }
footer {
  margin-top: 3rem; padding-top: .75rem; color: var(--quiet);
  border-top: 1px solid var(--line);
}
.unseen { position: absolute; width: 0; height: 0; overflow: hidden; }
@media (max-width: 40rem) {
  .bars li { grid-template-columns: 1fr auto; gap: .1rem .75rem; padding: .4rem 0; }
  .bars svg.bar { grid-column: 1 / -1; grid-row: 2; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { grid-column: 1; margin-bottom: .5rem; }
  table, tbody, tr, td, tbody th, caption { display: block; min-width: 0; max-width: none; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { border-top: 1px solid var(--line); padding: .4rem 0; }
  tbody th { position: static; }
  td, tbody th { border: 0; padding: .15rem .75rem; }
  td { display: flow-root; padding-left: 8.5rem; }
  td::before {
    content: attr(data-label); color: var(--quiet);
    float: left; width: 7rem; margin-left: -7.75rem;
  }
  td.right { text-align: left; white-space: normal; }
  td.nowrap code { white-space: normal; }
}
@media print { .scroll { overflow: visible; } nav { display: none; } }
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<svg class="unseen" aria-hidden="true"><defs><pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatched" width="8" height="8"/><line class="hatch" x1="0" y1="0" x2="0" y2="8"/></pattern></defs></svg>
<header><h1>resolved 1 of 2, 1 failed</h1>
<p class="note">Made on <time>2026-11-28 08:56 UTC</time> by resolver 0.1.0: <code>resolver resolve HOST:PORT/demo/app:9 HOST:PORT/demo/app:1.0 --format html</code></p>
</header>
<main id="main">
<section id="table-1" aria-labelledby="table-1-title"><h2 id="table-1-title">Images</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="table-1-caption"><table><caption id="table-1-caption"><span>images</span></caption><thead><tr><th scope="col">image</th><th scope="col">platform</th><th scope="col">grade</th><th scope="col">digest</th></tr></thead>
<tbody>
<tr><th scope="row">HOST:PORT/demo/app:9</th><td data-label="platform">-</td><td data-label="grade">error: manifest-not-found</td><td data-label="digest">-</td></tr>
<tr><th scope="row">HOST:PORT/demo/app:1.0</th><td data-label="platform">linux/amd64</td><td data-label="grade">exact</td><td data-label="digest">sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede</td></tr>
</tbody></table></div>

</section>
</main>
<footer>Made by resolver; sizes are those of compressed layers, in decimal units.</footer>
</body>
</html>
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:9` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
note: resolved 1 of 2, 1 failed
""")


def test_resolve_explain_several_with_no_trunc_prints_whole_digests(
    run: Run, registry: str
) -> None:
    asked = [f"{registry}/demo/app:1.0", "-p", "linux/amd64,linux/arm64", "--explain"]
    attestation = "sha256:708e4d18882279b141cceb93a85fe6280efbcd559b59b50c1adbc62c55e05a72"

    assert run("resolve", *asked).stdout.count(attestation) == 0
    assert run("resolve", *asked, "--no-trunc").stdout.count(attestation) == 2


def test_resolve_platform_all_lists_every_offered_platform(run: Run, registry: str) -> None:
    seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "all", "--format", "digest")

    assert seen.status == 0
    assert len(seen.stdout.split()) == 5


def test_an_unknown_tag(run: Run, registry: str) -> None:
    assert str(run("resolve", f"{registry}/demo/app:9.9")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT` has no manifest for `HOST:PORT/demo/app:9.9` (there is no such manifest in this repository)
hint: list the tags with `resolver tags HOST:PORT/demo/app`
""")


def test_an_unknown_repository(run: Run, registry: str) -> None:
    assert str(run("resolve", f"{registry}/demo/nothing")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT` has no repository `demo/nothing`
hint: check the spelling; a private repository may also need a login
""")


def test_resolve_from_a_closed_port(run: Run) -> None:
    assert str(run("resolve", "127.0.0.1:9/app:1", "-p", "linux/amd64")) == snapshot("""\
status: 5
--- stdout
--- stderr
error: `HOST:PORT` refuses connections
hint: check that it runs, and the port
""")


def test_resolve_offline_answers_from_the_store_and_reports_missing_content(
    run: Run, registry: str
) -> None:
    name = f"{registry}/demo/app:1.0"

    assert str(run("resolve", name, "--offline")) == snapshot("""\
status: 7
--- stdout
--- stderr
error: the store `FOLDER/store` does not hold the tag of `HOST:PORT/demo/app:1.0`, and `--offline` is set
hint: run the same command once without `--offline`
""")
    run("resolve", name, "-p", "linux/arm64")
    held = run("resolve", name, "-p", "linux/arm64", "--offline", "--format", "ref")

    assert str(held) == snapshot("""\
status: 0
--- stdout
HOST:PORT/demo/app@sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
""")


def test_resolve_verify_tag_reports_a_moved_tag(run: Run, registry: str) -> None:
    first = next(s for s in samples() if (s.repository, s.tag) == ("demo/app", "1.0"))
    pinned = f"{registry}/demo/app:2.0@{first.root.digest}"

    assert run("resolve", pinned, "-p", "linux/amd64").status == 0
    assert str(run("resolve", pinned, "-p", "linux/amd64", "--verify-tag")) == snapshot("""\
status: 1
--- stdout
--- stderr
error: `HOST:PORT/demo/app:2.0@sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda` is pinned to `sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda`, but the tag now points at `sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41`
hint: write the new digest if you want the new image, or drop the tag from the reference
""")


def test_resolve_verify_tag_reports_an_unchanged_tag(run: Run, registry: str) -> None:
    first = next(s for s in samples() if (s.repository, s.tag) == ("demo/app", "1.0"))
    pinned = f"{registry}/demo/app:1.0@{first.root.digest}"

    seen = run("resolve", pinned, "-p", "linux/amd64", "--verify-tag", "--json")

    assert json.loads(seen.stdout)["tagVerified"] is True


class TestJson:
    def test_resolve_json_is_one_document(self, run: Run, registry: str) -> None:
        seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64", "--json")

        assert seen.stderr == ""
        assert json.loads(seen.stdout)["platform"]["architecture"] == "arm64"

    def test_resolve_several_in_json_keeps_failures_in_order(self, run: Run, registry: str) -> None:
        names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing")]

        seen = run("resolve", *names, "-p", "linux/arm64", "--json")
        results = json.loads(seen.stdout)["results"]

        assert seen.status == 3
        assert "manifest" in results[0]
        assert results[1]["error"]["code"] == "manifest-not-found"
        assert results[1]["reference"].endswith("/demo/app:missing")

    def test_resolve_json_lines_prints_one_document_per_line(self, run: Run, registry: str) -> None:
        names = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "missing", "2.0")]

        seen = run("resolve", *names, "--format", "jsonl", "-p", "linux/amd64")

        assert ["error" in json.loads(line) for line in seen.stdout.splitlines()] == [
            False,
            True,
            False,
        ]

    def test_a_failure_is_a_document_on_stdout_and_a_line_on_stderr(
        self, run: Run, registry: str
    ) -> None:
        seen = run("resolve", f"{registry}/demo/app:9.9", "--json")

        assert json.loads(seen.stdout)["error"]["class"] == "NOT_FOUND"
        assert seen.stderr.startswith("error: ")

    def test_a_mistake_on_the_command_line_is_a_document_too(self, run: Run) -> None:
        seen = run("resolve", "--json", "app", "--no-such-option")

        assert json.loads(seen.stdout)["error"]["class"] == "USAGE"
        assert seen.status == 2


class TestFile:
    def test_resolve_reads_references_from_a_file(
        self, run: Run, registry: str, tmp_path: Path
    ) -> None:
        names = f"# ours\n{registry}/demo/app:1.0\n\n  {registry}/demo/app:2.0\n"
        (tmp_path / "images.txt").write_text(names)

        seen = run("resolve", "-f", "images.txt", "-p", "linux/amd64", "--format", "ref")

        assert seen.status == 0
        assert [line.split("@")[0] for line in seen.stdout.split()] == ["HOST:PORT/demo/app"] * 2

    def test_resolve_reports_a_bad_line_in_its_place(
        self, run: Run, registry: str, tmp_path: Path
    ) -> None:
        app = f"{registry}/demo/app"
        (tmp_path / "images.txt").write_text(f"{app}:1.0\nUPPER\n{app}:9.9\n{app}:2.0\n")

        seen = run("resolve", "-f", "images.txt", "-p", "linux/amd64")

        assert seen.status == 3
        lines = seen.stdout.splitlines()
        assert [line.split()[-1] for line in lines] == [
            "HOST:PORT/demo/app:1.0", "UPPER", "HOST:PORT/demo/app:9.9", "HOST:PORT/demo/app:2.0",
        ]  # fmt: skip
        assert lines[1].startswith("error: invalid-reference ")
        assert "error: images.txt:2: `UPPER` is not an image reference" in seen.stderr
        assert seen.stderr.endswith("note: resolved 2 of 4, 2 failed\n")
        columns = {line.index(" linux/amd64") for line in lines}
        assert len(columns) == 1

    def test_only_line_of_a_file_that_is_malformed_is_named(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "images.txt").write_text("# ours\nUPPER\n")

        assert str(run("resolve", "-f", "images.txt")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: images.txt:2: `UPPER` is not an image reference: repository name must be lowercase
hint: write `upper`
""")

    @pytest.mark.parametrize(
        ("words", "kept"),
        [
            (("check", "--require", "linux/amd64"), "demo/app:1.0"),
            (("lint",), "demo/app:1.0"),
            (("plan", "-p", "linux/amd64"), "demo/app:1.0"),
            (("pull", "-p", "linux/amd64"), "Downloaded newer image for HOST:PORT/demo/app:1.0"),
            (("lock", "-o", "new.lock"), "added"),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    def test_every_batch_keeps_going_after_a_bad_line(
        self, run: Run, registry: str, tmp_path: Path, words: tuple[str, ...], kept: str
    ) -> None:
        app = f"{registry}/demo/app"
        (tmp_path / "images.txt").write_text(f"UPPER\n{app}:1.0\n")

        seen = run(*words, "-f", "images.txt")

        assert seen.status == 2
        assert kept in seen.stdout or words[0] == "lock"
        assert seen.stderr.count("error: images.txt:1: `UPPER` is not an image reference") == 1
        if words[0] == "pull":
            assert "is kept" not in seen.stderr
            assert run("ls", "-q").stdout != ""

    def test_batch_without_a_usable_reference_is_an_error(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "images.txt").write_text("UPPER\nALSO\n")

        for words in (("plan",), ("pull",), ("lock",), ("lint",), ("resolve",)):
            seen = run(*words, "-f", "images.txt")
            assert seen.status == 2
            assert "`UPPER` is not an image reference" in seen.stderr

    def test_failed_references_of_a_plan_are_in_its_json(self, run: Run, registry: str) -> None:
        seen = run("plan", f"{registry}/demo/app:1.0", f"{registry}/demo/app:9.9", "--json")
        values = json.loads(seen.stdout)

        assert seen.status == 3
        assert [item["reference"][-12:] for item in values["failures"]] == ["demo/app:9.9"]
        assert values["images"]

    @pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"])
    def test_an_empty_list_is_a_mistake(self, run: Run, tmp_path: Path, content: str) -> None:
        (tmp_path / "images.txt").write_text(content)

        assert run("resolve", "-f", "images.txt").status == 2

    def test_resolve_reports_a_missing_file_or_a_folder(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()

        assert str(run("resolve", "-f", "nowhere.txt")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot read `nowhere.txt`: No such file or directory
hint: name a readable file
""")
        assert str(run("resolve", "-f", "folder")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot read `folder`: Is a directory
hint: name a readable file
""")


@pytest.mark.parametrize("variable", ["RESOLVER_PLATFORM", "DOCKER_DEFAULT_PLATFORM"])
def test_resolve_names_the_variable_of_an_invalid_platform(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "junk")

    seen = run("resolve", "127.0.0.1:9/app")

    assert seen.status == 2
    assert f"the variable `{variable}` sets it" in seen.stderr
    # What somebody typed is somebody's own.
    assert variable not in run("resolve", "127.0.0.1:9/app", "-p", "nonsense").stderr


class TestPatterns:
    def test_pattern_stands_for_the_platforms_that_match(self, run: Run, registry: str) -> None:
        for pattern, expected in (
            ("linux/*", ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"]),
            ("*/arm64", ["linux/arm64/v8"]),
            ("windows/*:10.0.20348*", ["windows/amd64:10.0.20348.2700"]),
            ("linux/arm/v?", ["linux/arm/v7"]),
        ):
            seen = run("resolve", f"{registry}/demo/app:1.0", "-p", pattern)

            assert seen.status == 0
            assert [line.split()[1] for line in seen.stdout.splitlines()] == expected

    def test_pattern_and_names_together(self, run: Run, registry: str) -> None:
        seen = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/arm64,linux/arm/*")

        assert [line.split()[1] for line in seen.stdout.splitlines()] == [
            "linux/arm64/v8", "linux/arm/v7",
        ]  # fmt: skip

    def test_each_image_is_matched_by_itself(self, run: Run, registry: str) -> None:
        images = (f"{registry}/demo/single:1.0", f"{registry}/demo/app:1.0")
        seen = run("resolve", *images, "-p", "linux/arm*")

        assert seen.status == 3
        assert len(seen.stdout.splitlines()) == 3
        assert "is not offered for `linux/arm*`" in seen.stderr

    def test_pattern_without_a_match_lists_what_is_offered(self, run: Run, registry: str) -> None:
        for words in (("resolve",), ("plan",), ("pull",), ("compare",), ("matrix",)):
            seen = run(*words, f"{registry}/demo/app:1.0", "-p", "plan9/*")

            assert seen.status == 3, words
            assert "is not offered for `plan9/*`" in seen.stderr
            assert "`linux/arm/v7`" in seen.stderr

    def test_plan_pull_export_compare_and_matrix_take_patterns(
        self, run: Run, registry: str
    ) -> None:
        app = f"{registry}/demo/app:1.0"
        pulled = run("pull", app, f"{registry}/demo/app:2.0", "-p", "linux/arm*")
        assert pulled.status == 0
        assert pulled.stdout.count("Platform: linux/arm") == 4
        assert (
            run("plan", app, "-p", "linux/arm*").stdout.count("nothing, all content is held") == 1
        )
        exported = run("export", app, "--to", "out", "-p", "linux/arm*")
        assert exported.status == 0, exported
        compared = run("compare", app, "-p", "linux/*")
        assert "windows" not in compared.stdout.partition("documents")[0]
        jobs = run("matrix", app, "-p", "windows/*")
        assert jobs.stdout.count("windows/amd64") >= 2
        assert "linux/" not in jobs.stdout

    def test_pattern_is_refused_where_no_index_is_read(self, run: Run, registry: str) -> None:
        run("lock", f"{registry}/demo/app:1.0")
        for words in (("resolve",), ("plan",), ("pull",)):
            seen = run(*words, f"{registry}/demo/app:1.0", "--locked", "-p", "linux/*")

            assert seen.status == 2
            assert "a pattern in `--platform` needs the index" in seen.stderr

    def test_library_refuses_patterns(self) -> None:
        with pytest.raises(InvalidPlatform):
            Platform.parse("linux/*")
