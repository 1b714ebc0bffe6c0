"""`resolver completion`, and the completion of platforms and references.

The latter runs at every TAB: it sends no request, loads no HTTP client, and never fails, whatever
is in the store.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli.output import Output
from resolver.errors import ResolverError, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names offered at most.
_MAX_NAMES = 1_000

#: The keywords and the most common platforms.
_PLATFORMS = (
    "local",
    "all",
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/386",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/s390x",
    "linux/loong64",
    "windows/amd64:ltsc2019",
    "windows/amd64:ltsc2022",
    "windows/amd64:ltsc2025",
)


SHELLS = ("bash", "zsh", "fish", "powershell")
#: The last line of Typer's script for zsh, which registers the function when it is sourced; a file
#: in `fpath` is the body of the function itself at the first TAB.
#: Source: click 8, `shell_completion.py`, `_SOURCE_ZSH`.
_ZSH_REGISTER = "compdef _resolver_completion resolver"
_ZSH_AUTOLOADED = (
    "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
    '  _resolver_completion "$@"\n'
    f"else\n  {_ZSH_REGISTER}\nfi"
)
#: In place of Typer's script for Bash, which does not complete `app:1` or `--platform=linux/arm`:
#: words of Bash also end at `:` and `=`, which are in references and platforms.
#: Source: Bash manual, "Programmable Completion", and `COMP_WORDBREAKS` in "Bash Variables".
_BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" breaks="${COMP_WORDBREAKS//[^:=]/}"
    local rest="$line" word="${line##*[[:blank:]]}" before="" number=0 at
    for ((at = 0; at < COMP_CWORD; at++)); do
        rest="${rest#*"${COMP_WORDS[at]}"}"
        if [[ $rest == [[:blank:]]* ]]; then ((number++)); fi
    done
    # What Bash keeps: it replaces only what follows the last break.
    if [[ $breaks ]]; then before="${word%%"${word##*[$breaks]}"}"; fi
    COMPREPLY=( $( env COMP_WORDS="$line" COMP_CWORD=$number \
                   %(autocomplete_var)s=complete_bash "$1" ) )
    COMPREPLY=( "${COMPREPLY[@]#"$before"}" )
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def offer_shells(incomplete: str) -> list[str]:
    """Complete the name of a shell."""
    return [shell for shell in SHELLS if shell.startswith(incomplete)]


def completion(
    # Not by `options.argument`: the options complete their values with this module.
    shell: Annotated[
        str,
        typer.Argument(
            metavar="SHELL",
            help="bash, zsh, fish or powershell.",
            show_default=False,
            autocompletion=offer_shells,
        ),
    ],
) -> None:
    """Print the completion script for a shell.

    For packages and system-wide files; `resolver --install-completion` sets up the current shell of
    one user.

    \b
      resolver completion bash > /usr/share/bash-completion/completions/resolver
      resolver completion zsh > "${fpath[1]}/_resolver"
      resolver completion fish > ~/.config/fish/completions/resolver.fish
      resolver completion powershell >> $PROFILE
    """
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise Usage(f"unknown shell `{shell[:40]}`", f"choose one of {', '.join(SHELLS)}")
    script = get_completion_script(
        prog_name="resolver", complete_var="_RESOLVER_COMPLETE", shell=shell
    )
    if shell == "zsh":
        script = script.replace(_ZSH_REGISTER, _ZSH_AUTOLOADED)
    Output().answer(f"{script}\n")


def adapt_typer() -> None:
    """Use our script for Bash, and stop Typer from parsing help texts as rich markup.

    It does the latter whenever rich is installed, whatever `rich_markup_mode` is: that fails on
    `os/arch[/variant]`, and loads all of rich at every TAB. Source: Typer 0.28,
    `_completion_classes.py`, `_sanitize_help_text`.
    """
    from typer import _completion_classes, _completion_shared

    _completion_shared._completion_scripts["bash"] = _BASH  # noqa: SLF001 - no other switch
    if hasattr(_completion_classes, "_sanitize_help_text"):
        _completion_classes._sanitize_help_text = _unchanged  # noqa: SLF001 - no other switch


def _unchanged(text: str) -> str:
    return text


def platforms(incomplete: str) -> list[str]:
    """Complete a platform; in a list with commas, its last element."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _PLATFORMS if name.startswith(last)]


def references(incomplete: str, store: str | None = None) -> list[str]:
    """Complete a name in the store, in its short or its canonical form."""
    found: dict[str, None] = {}
    prefix = "store:" if incomplete.startswith("store:") else ""
    start = incomplete.removeprefix(prefix)
    with suppress(ResolverError, OSError, ValueError):
        for canonical, familiar in _stored_names(store):
            # The short form first: users type it more often.
            for form in (familiar, canonical):
                if form.startswith(start):
                    found[f"{prefix}{form}"] = None
                    break
            if len(found) >= _MAX_NAMES:
                break
    return sorted(found)


def _stored_names(folder: str | None) -> Iterator[tuple[str, str]]:
    """Yield every name in the store, canonical and familiar."""
    from resolver.core.oci.reference import Reference
    from resolver.settings import Flags, Settings
    from resolver.store import LocalStore

    settings = Settings.load(Flags(store=folder))
    store = LocalStore(settings.store, shared=settings.shared_store)
    names = {record.reference for record in store.pulled_names()}
    names |= {record.reference for record in store.names()}
    for name in sorted(names):
        with suppress(ResolverError):
            reference = Reference.parse(name)
            yield name, name if reference.digest is not None else reference.familiar
