"""Rules about what programs in an image are made for and need (`--deep`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.layers.elf_needs import Sureness
from resolver.core.layers.executable import runs_on
from resolver.core.lint.findings import Rule, Severity
from resolver.core.lint.subject import LintRow, SearchOutcome
from resolver.core.results.needs import LARGER_PAGES, Machine, NeedKind, kib, libc_of, obstacles
from resolver.errors import UnsupportedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.layers.executable import Executable
    from resolver.core.lint.findings import Finding
    from resolver.core.lint.subject import Look, Program, Subject
    from resolver.core.platforms.platform import Platform, PlatformTable

#: Formats of programs by operating system; ELF for any other.
_FORMATS = {"windows": "pe", "darwin": "mach-o", "ios": "mach-o"}
#: Pairs of platform and program that every machine runs natively.
_NATIVE_ENOUGH = frozenset({("amd64", "386")})
#: The machine of portable programs.
_ANY = "any"

WRONG_MACHINE = Rule(
    "wrong-machine",
    Severity.ERROR,
    "the entrypoint is built for another machine",
    "The image states one platform, but the program that it starts is built for another. The "
    "container fails with `exec format error`, or runs under emulation where that is configured, "
    "which hides the problem during the build. The usual cause is a download in the Dockerfile "
    "that names a fixed architecture, or a build stage that ignores the target: use "
    "`TARGETARCH`, and check `FROM --platform`. A layer that was read only in part could not be "
    "checked against its digest; the finding says so.",
)
FOREIGN_PROGRAMS = Rule(
    "foreign-programs",
    Severity.WARNING,
    "executables built for another machine",
    "Some executables at the start of a layer cannot run on this platform. If none of the "
    "sampled ones can, it is an error. Compilers and emulators contain such files on purpose; "
    "skip the rule for them with `--ignore foreign-programs`.",
)
FALLBACK_MACHINE = Rule(
    "fallback-machine",
    Severity.NOTE,
    "the entrypoint runs on some machines only",
    "32-bit arm programs run on many 64-bit arm machines, but not on all: servers and Apple "
    "machines have no 32-bit mode. Windows on arm emulates amd64. Build for the platform itself "
    "if possible.",
)
MISSING_ENTRYPOINT = Rule(
    "missing-entrypoint",
    Severity.NOTE,
    "the entrypoint is in none of the layers",
    "All layers were read, and none contains the program that the config names, so the container "
    "starts only if the program is mounted into it. Check its spelling, and `PATH` in the config.",
)
UNDECIDED_ENTRYPOINT = Rule(
    "undecided-entrypoint",
    Severity.NOTE,
    "the entrypoint was not found within the limit",
    "The program that the config names was not found in the bytes that may be read, or a layer "
    "could not be read, so its machine is unknown. Raise the limit with `--max-bytes`.",
)
UNREADABLE_LAYER = Rule(
    "unreadable-layer",
    Severity.ERROR,
    "a missing or damaged layer",
    "Clients cannot unpack the image, or get other files than were published. Push it again; if "
    "that does not help, build it again with a current tool. A compression that resolver cannot "
    "read is a note, because the layer may be valid.",
)

NEEDS_NEWER_CPU = Rule(
    "needs-newer-cpu",
    Severity.ERROR,
    "what is started needs a newer processor",
    "A program, its loader or a library states a processor level above the platform of the entry: "
    "on a machine of that platform it ends with `Illegal instruction`, or glibc refuses to start. "
    "Build for the level of the entry (`-march`, `GOAMD64`, an older base image), or list the "
    "image with its level as variant: `linux/amd64/v3`. `resolver needs` shows what each file "
    "states.",
)
NEEDS_LARGER_PAGES = Rule(
    "needs-larger-pages",
    Severity.WARNING,
    "what is started needs small pages",
    "The segments of a program or library are aligned for small pages only, and some kernels of "
    "this architecture have larger ones: there it does not load. Link with "
    "`-z max-page-size=65536`. What an allocator was built for is not checked.",
)
MISSING_INTERPRETER = Rule(
    "missing-interpreter",
    Severity.ERROR,
    "the loader of what is started is in no layer",
    "A dynamic program names the loader that starts it. Without it the container ends with "
    "`no such file or directory`, although the program is there. Copy the loader and the libraries "
    "too, or link statically.",
)
FOREIGN_LIBC = Rule(
    "foreign-libc",
    Severity.ERROR,
    "what is started is made for another libc",
    "A program made for glibc does not start in an image with musl, such as Alpine, and the other "
    "way round: the loader that it names is missing. Build it in a stage of the same distribution, "
    "or link statically.",
)
POSSIBLE_NEWER_CPU = Rule(
    "possible-newer-cpu",
    Severity.NOTE,
    "what is started may need a newer processor",
    "The code has instructions above the level of the entry, such as LSE atomics on arm64 without "
    "the run-time check of compilers (`-moutline-atomics`), or a library states a higher level and "
    "may choose its code at run time. Try it on a processor of that level.",
)


def fits(executable: Executable, platform: Platform, table: PlatformTable) -> bool:
    """Return whether a program can run on a normalised platform."""
    if executable.machine == _ANY:
        return True
    if executable.format != _FORMATS.get(platform.os, "elf"):
        return False
    return runs_on(executable, platform, table)


def wrong_machines(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program for another machine."""
    for look, platform, program in _started(subject):
        if not fits(program.executable, platform, subject.table):
            message = f"it starts `{program.path}`, {_built_for(program)}"
            yield subject.finding(WRONG_MACHINE, message, look.part)


def foreign_programs(subject: Subject) -> Iterator[Finding]:
    """Find images with executables for another machine that they do not start."""
    for look in subject.looks:
        platform = _platform(look, subject.table)
        started = {(one.program.layer, one.program.path) for one in look.started if one.program}
        native = _FORMATS.get(platform.os, "elf")
        # Installers for Windows on Linux are data.
        sample = [program for program in look.sample if program.executable.format == native]
        alien = [
            program
            for program in sample or look.sample
            if not fits(program.executable, platform, subject.table)
            and (program.layer, program.path) not in started
        ]
        if not alien:
            continue
        all_alien = len(alien) == len(look.sample) and not _starts_well(look, subject.table)
        first = alien[0]
        more = f" and {len(alien) - 1} more" if len(alien) > 1 else ""
        message = f"it contains `{first.path}`{more}, {_built_for(first)}"
        severity = Severity.ERROR if all_alien else Severity.WARNING
        yield subject.finding(FOREIGN_PROGRAMS, message, look.part, severity=severity)


def fallback_machines(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program that not every machine of the platform runs."""
    for look, platform, program in _started(subject):
        machine = program.executable.machine
        if machine == platform.architecture or machine not in subject.table.architectures:
            continue
        pair = (platform.architecture, machine)
        if fits(program.executable, platform, subject.table) and pair not in _NATIVE_ENOUGH:
            message = f"it starts `{program.path}`, {_built_for(program)}"
            yield subject.finding(FALLBACK_MACHINE, message, look.part)


def missing_entrypoints(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program that none of their layers contains."""
    for look in subject.looks:
        for one in look.started:
            if one.outcome is SearchOutcome.NOT_THERE and one.is_certain:
                message = f"`{one.words}` is in none of its layers"
                yield subject.finding(MISSING_ENTRYPOINT, message, look.part)


def undecided_entrypoints(subject: Subject) -> Iterator[Finding]:
    """Find images whose started program was not found in the bytes read."""
    for look in subject.looks:
        # The search stops at a wrong machine.
        if look.failures or any(
            one.program
            and not fits(one.program.executable, _platform(look, subject.table), subject.table)
            for one in look.started
        ):
            continue
        for one in look.started:
            if one.outcome is SearchOutcome.UNDECIDED and one.is_certain:
                message = f"`{one.words}` was not found in {look.bytes_read} bytes of its layers"
                yield subject.finding(UNDECIDED_ENTRYPOINT, message, look.part)


def unreadable_layers(subject: Subject) -> Iterator[Finding]:
    """Find missing or damaged layers."""
    for look in subject.looks:
        for _digest, error in look.failures:
            severity = Severity.NOTE if isinstance(error, UnsupportedDocument) else Severity.ERROR
            yield subject.finding(UNREADABLE_LAYER, str(error), look.part, severity=severity)


def newer_cpus(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program whose stated level is above their platform."""
    yield from _cpu_findings(subject, NEEDS_NEWER_CPU, frozenset({Sureness.STATED}))


def possibly_newer_cpus(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program whose code may need a level above their platform."""
    sure = frozenset({Sureness.SEEN, Sureness.POSSIBLE})
    yield from _cpu_findings(subject, POSSIBLE_NEWER_CPU, sure)


def _cpu_findings(subject: Subject, rule: Rule, sure: frozenset[Sureness]) -> Iterator[Finding]:
    for look in subject.looks:
        machine = Machine(_platform(look, subject.table))
        for one in obstacles(look.needs, machine, subject.table):
            if one.kind is NeedKind.CPU and one.sure in sure:
                yield subject.finding(rule, one.message, look.part)


def larger_pages(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program which larger pages of their architecture refuse."""
    for look in subject.looks:
        known = LARGER_PAGES.get(_platform(look, subject.table).architecture, ())
        for file in look.needs.files:
            own = file.elf.page_size
            fails = [f"{kib(size)} ({where})" for size, where in known if 0 < own < size]
            if fails:
                message = (
                    f"`{file.path}` loads with pages of up to {kib(own)}, not {' or '.join(fails)}"
                )
                yield subject.finding(NEEDS_LARGER_PAGES, message, look.part)


def missing_interpreters(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program whose loader they lack."""
    yield from _loader_findings(subject, MISSING_INTERPRETER)


def foreign_libcs(subject: Subject) -> Iterator[Finding]:
    """Find images that start a program for another libc than theirs."""
    yield from _loader_findings(subject, FOREIGN_LIBC)


def _loader_findings(subject: Subject, rule: Rule) -> Iterator[Finding]:
    for look in subject.looks:
        for loader in look.needs.loaders:
            if loader.found is not False or bool(loader.foreign) != (rule is FOREIGN_LIBC):
                continue
            message = f"`{loader.program}` needs the loader `{loader.path}`, which is in no layer"
            if loader.foreign:
                message += f"; the image has that of {libc_of(loader.foreign)}, `{loader.foreign}`"
            severity = Severity.ERROR if loader.is_certain else Severity.WARNING
            yield subject.finding(rule, message, look.part, severity=severity)


def _started(subject: Subject) -> Iterator[tuple[Look, Platform, Program]]:
    for look in subject.looks:
        platform = _platform(look, subject.table)
        for program in dict.fromkeys(one.program for one in look.started if one.program):
            yield look, platform, program


def _starts_well(look: Look, table: PlatformTable) -> bool:
    platform = _platform(look, table)
    return any(
        one.program is not None and fits(one.program.executable, platform, table)
        for one in look.started
    )


def _platform(look: Look, table: PlatformTable) -> Platform:
    if look.part.platform is None:
        raise AssertionError("an image without a platform was looked into")
    return look.part.platform.normalized(table)


def _built_for(program: Program) -> str:
    checked = "" if program.verified else ", read in part and not verified"
    return f"built for `{program.executable}`, in the layer `{program.layer}`{checked}"


ROWS = (
    LintRow(WRONG_MACHINE, wrong_machines),
    LintRow(FOREIGN_PROGRAMS, foreign_programs),
    LintRow(FALLBACK_MACHINE, fallback_machines),
    LintRow(MISSING_ENTRYPOINT, missing_entrypoints),
    LintRow(UNDECIDED_ENTRYPOINT, undecided_entrypoints),
    LintRow(NEEDS_NEWER_CPU, newer_cpus),
    LintRow(MISSING_INTERPRETER, missing_interpreters),
    LintRow(FOREIGN_LIBC, foreign_libcs),
    LintRow(NEEDS_LARGER_PAGES, larger_pages),
    LintRow(POSSIBLE_NEWER_CPU, possibly_newer_cpus),
    LintRow(UNREADABLE_LAYER, unreadable_layers),
)
