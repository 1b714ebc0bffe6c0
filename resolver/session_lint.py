"""The verb of a session that judges images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.linted import Linted, LintedImage
from resolver.core.reference import Reference
from resolver.errors import ResolverError
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.target import Target


class LintVerbs(Wiring):
    """Finds the images that lie about themselves."""

    def lint(
        self,
        references: str | Reference | Iterable[str | Reference],
        *,
        ignore: Iterable[str] = (),
    ) -> Linted:
        """Apply every rule of `resolver.core.lint` to images.

        All manifests and configs are read, each once; layers are not.

        Args:
            references: of registries or local places, one or many.
            ignore: ids of rules that nobody wants to hear of.

        Raises:
            Malformed: a reference cannot be read, or there is no such rule; nobody was asked.
            ResolverError: the only image could not be looked at; of several, see `Linted.failures`.
        """
        from resolver.core.lint import rule  # noqa: PLC0415 - for this question alone
        from resolver.flow.batch import each  # noqa: PLC0415

        ignored = tuple(rule(each).id for each in ignore)
        named: list[str | Reference] = (
            [references] if isinstance(references, str | Reference) else list(references)
        )
        targets = [self._target(reference) for reference in named]
        jobs = self.settings.jobs if len(targets) == 1 else 1

        def look(target: Target) -> LintedImage:
            return self._linted(target, ignored, jobs)

        images: list[LintedImage | Failure] = []
        for outcome in each(look, targets, jobs=self.settings.jobs):
            if not isinstance(outcome.value, ResolverError):
                images.append(outcome.value)
            elif len(targets) == 1:
                raise outcome.value
            else:
                images.append(Failure(str(outcome.item), None, outcome.value))
        return Linted(tuple(images))

    def _linted(self, target: Target, ignored: tuple[str, ...], jobs: int) -> LintedImage:
        from resolver.flow.lint import judge, look_at  # noqa: PLC0415 - for this question alone

        reader, warned = self._reader(target)
        subject = look_at(
            reader,
            lambda: self._ask(reader, target),
            target,
            self.table,
            jobs=jobs,
            warn=warned.append,
        )
        reader.tell_warnings()
        return judge(subject, ignored, warned)
