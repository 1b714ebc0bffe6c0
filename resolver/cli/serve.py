"""`resolver serve` and `resolver mirror-config`: a local registry or mirror, and its clients."""

from __future__ import annotations

from typing import Annotated

from resolver.cli import options
from resolver.cli.inputs import span
from resolver.cli.output import Output
from resolver.cli.run import open_session
from resolver.errors import Usage
from resolver.render import prepare, render_values, renderer


@options.command
def serve(
    common: options.Common,
    place: Annotated[
        options.Text, options.argument("[oci:DIR]", "An OCI layout; by default the store.")
    ] = None,
    listen: Annotated[
        str,
        options.option(
            "--listen",
            "Listen on this address; port 0 is any free port.",
            "HOST:PORT",
            variable="RESOLVER_LISTEN",
            show_default=True,
        ),
    ] = "127.0.0.1:5000",
    names: Annotated[
        options.Texts, options.option("--name", "Also accept this host name; repeatable.", "HOST")
    ] = None,
    mirror: Annotated[
        bool, options.option("--mirror", "Fetch missing content from upstream, and keep it.")
    ] = False,
    upstream: Annotated[
        options.Text,
        options.option("--upstream", "Set the default registry; by default docker.io.", "HOST"),
    ] = None,
    allow: Annotated[
        options.Texts, options.option("--allow", "Also mirror this registry; repeatable.", "HOST")
    ] = None,
    fresh: Annotated[
        str,
        options.option("--fresh", "Resolve a tag again after this time.", "AGE", show_default=True),
    ] = "60s",
    writable: Annotated[
        bool, options.option("--writable", "Take pushes; PATH is kept as localhost/PATH.")
    ] = False,
    htpasswd: Annotated[
        options.Text, options.option("--htpasswd", "Require a user of this file (bcrypt).", "FILE")
    ] = None,
    keep_untagged: Annotated[
        options.Text,
        options.option(
            "--keep-untagged", "Keep pushed manifests without a tag; by default for 24h.", "AGE"
        ),
    ] = None,
    allow_sparse: Annotated[
        bool, options.option("--allow-sparse", "Take an index whose entries were not all pushed.")
    ] = False,
) -> None:
    """Serve the store or an OCI layout as a registry.

    The registry is read-only and uses plain HTTP without credentials, so by default it listens on
    this machine only. Prints its address and runs until interrupted. Images have the name of their
    repository, with or without the registry. A partly stored image is served by tag as an index of
    the stored part, and by digest as the original. With `--mirror`, fetches missing content from
    upstream with your credentials; `resolver mirror-config` configures other tools to use it. With
    `--writable`, takes pushes: blobs, manifests, referrers and deletions, for tests and CI jobs. To
    listen beyond this machine it requires `--htpasswd`.

    \b
      resolver serve
      docker pull 127.0.0.1:5000/library/ubuntu:24.04
      resolver serve oci:./layout --listen 127.0.0.1:0
      resolver serve --mirror --allow ghcr.io,quay.io -v
      resolver serve --writable
      resolver serve --writable --listen 0.0.0.0:5000 --htpasswd users
    """
    host, port = address(listen)
    through = mirrored(place, upstream, allow, fresh, mirror=mirror)
    seconds_untagged = written(
        place, htpasswd, keep_untagged, mirror=mirror, writable=writable, allow_sparse=allow_sparse
    )
    with open_session(common) as (session, output):
        if writable:
            serving = session.serve_writable(
                host,
                port,
                htpasswd=htpasswd,
                keep_untagged=seconds_untagged,
                allow_sparse=allow_sparse,
                names=names or (),
            )
        elif through is None:
            serving = session.serve(place, host, port, names=names or ())
        else:
            first, others, seconds = through
            serving = session.serve_mirror(
                host, port, upstream=first, allow=others, fresh=seconds, names=names or ()
            )
        with serving as server:
            output.answer(f"{server.address}\n")
            what = "read-only" if through is None else "and fetching missing content"
            what = "and taking pushes" if writable else what
            output.note(f"serving, {what}; interrupt to stop")
            server.wait()


_MAX_PORT = 65_535


def address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `[HOST]:PORT` or `:PORT` (this machine)."""
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    usable = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(_MAX_PORT))
    if not colon or not usable or int(digits) > _MAX_PORT or (":" in host and not bracketed):
        raise Usage(
            f"`--listen {text}` is not an address",
            "write `127.0.0.1:5000`, `[::1]:5000` or `:5000`",
        )
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(digits)


def mirrored(
    place: str | None, upstream: str | None, allow: list[str] | None, fresh: str, *, mirror: bool
) -> tuple[str, tuple[str, ...], float] | None:
    """Parse the mirror options: the default registry, the others, and seconds that a tag is fresh.

    Return None without `--mirror`.
    """
    others = tuple(name for hosts in allow or () for name in hosts.split(",") if name)
    if not mirror:
        if upstream or others:
            raise Usage("`--upstream` and `--allow` require `--mirror`", "add `--mirror`")
        return None
    if place is not None:
        raise Usage("`--mirror` serves the store, not a layout", f"leave out `{place}`")
    return upstream or "docker.io", others, span(fresh, "--fresh")


def written(
    place: str | None,
    htpasswd: str | None,
    keep_untagged: str | None,
    *,
    mirror: bool,
    writable: bool,
    allow_sparse: bool,
) -> float:
    """Check the options of a writable registry; return the seconds of `--keep-untagged`.

    Raises:
        Usage: options exclude each other.
    """
    from resolver.settings import KEEP_UNTAGGED

    if not writable and (htpasswd or keep_untagged or allow_sparse):
        given = (
            "--htpasswd" if htpasswd else "--keep-untagged" if keep_untagged else "--allow-sparse"
        )
        raise Usage(f"`{given}` requires `--writable`", "add `--writable`")
    if writable and mirror:
        raise Usage("`--writable` and `--mirror` exclude each other", "run two servers")
    if writable and place is not None:
        raise Usage("`--writable` serves the store, not a layout", f"leave out `{place}`")
    return KEEP_UNTAGGED if keep_untagged is None else span(keep_untagged, "--keep-untagged")


@options.command
def mirror_config(
    common: options.Common,
    tool: Annotated[str, options.argument("TOOL", "containerd, docker, podman or buildkit.")],
    hosts: Annotated[options.Texts, options.argument("[HOST]...", "Registries to mirror.")] = None,
    mirror: Annotated[
        options.Text,
        options.option("--mirror", "Use this mirror instead of `resolver serve`.", "URL"),
    ] = None,
    at: Annotated[
        options.Text,
        options.option(
            "--at", "Address of `resolver serve`; by default http://127.0.0.1:5000.", "URL"
        ),
    ] = None,
    tags: Annotated[bool, options.option("--tags", "Also resolve tags through --mirror.")] = False,
) -> None:
    """Print a mirror configuration for another tool.

    TOOL is containerd, docker, podman (also for buildah and skopeo) or buildkit; each HOST is a
    registry to mirror, by default docker.io. Names the path of each file, and writes none.

    \b
      resolver mirror-config docker
      resolver mirror-config containerd docker.io ghcr.io
      resolver mirror-config podman --at http://cache.lan:5000 docker.io quay.io
      resolver mirror-config buildkit --mirror https://mirror.example.com
    """
    from resolver.render.to_dict import SCHEMA
    from resolver.verbs.serve.tool_config import mirror_config as written

    prepare(common.form)
    output = Output(quiet=common.quiet, verbose=common.verbose)
    files = written(tool, hosts or (), mirror, at, tags=tags)
    if renderer(common.form).draws == "plain":
        listed: object = [{"path": file.path, "content": file.content} for file in files]
        value = {"schema": SCHEMA, "tool": tool, "files": listed}
        output.answer(render_values(value, common.form))
        return
    for position, file in enumerate(files):
        output.note(f"put this into `{file.path}`")
        # JSON has no comments; one file needs none.
        head = f"# {file.path}\n" if len(files) > 1 else ""
        output.answer(("\n" if position else "") + head + file.content)
    for advice in dict.fromkeys(line for file in files for line in file.advice):
        output.note(advice)
