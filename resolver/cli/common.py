"""`resolver options`: the options that every command takes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolver.render.handing import Emitter


def options() -> None:
    """Explain the options that all commands take."""
    from textwrap import wrap

    from resolver.cli.options import SHARED
    from resolver.cli.output import Output
    from resolver.render import RENDERERS
    from resolver.render.handing import EMITTERS, REPORTS

    rows = []
    for shared in SHARED:
        names = ", ".join(shared.names)
        text = f"{names} {shared.metavar}" if shared.metavar else names
        help_text = shared.help
        if shared.variable:
            help_text = f"{help_text.rstrip('.')} [{shared.variable}]."
        rows.append((text, help_text))
    width = max(len(name) for name, _help in rows)
    lines = ["Every command takes these; the variables in brackets say the same.", ""]
    lines += [f"  {name:<{width}}  {text}" for name, text in rows]
    lines += [
        "",
        f"Systems: {', '.join(map(_placed, EMITTERS.values()))}, auto.",
        f"Reports: {', '.join(REPORTS)}. Both may be repeated.",
        *wrap(f"Forms: {', '.join(RENDERERS)}; the default is table.", 80),
        "Also honoured: DOCKER_DEFAULT_PLATFORM, DOCKER_CONFIG, DOCKER_AUTH_CONFIG,",
        "REGISTRY_AUTH_FILE, SSL_CERT_FILE, HTTPS_PROXY, HTTP_PROXY, NO_PROXY.",
        "Where registries are asked: --mirror, else config.yaml (RESOLVER_CONFIG), else",
        "containerd's certs.d (RESOLVER_CERTS_D), else CONTAINERS_REGISTRIES_CONF.",
    ]
    Output().answer("\n".join(lines) + "\n")


def _placed(row: "Emitter") -> str:
    return f"{row.name}={row.takes}" if row.takes else row.name
