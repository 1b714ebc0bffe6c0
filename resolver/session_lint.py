"""The verb of a session that judges images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from resolver.core.answer import Failure
from resolver.core.reference import Reference
from resolver.core.target import LayoutTarget, StoreTarget
from resolver.errors import NotInStore, ResolverError
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from resolver.core.descriptor import Descriptor
    from resolver.core.linted import Linted, LintedImage
    from resolver.core.ranged import RangedSource
    from resolver.core.target import Target
    from resolver.flow.lint_deep import Depths


#: Bytes of layers that are read for each platform, where nobody said: more than where a program
#: is in usual base images, less than anybody would mind.
MOST = 32 << 20


class LintVerbs(Wiring):
    """Finds the images that lie about themselves."""

    def lint(
        self,
        references: str | Reference | Iterable[str | Reference],
        *,
        deep: bool = False,
        max_bytes: int = MOST,
        ignore: Iterable[str] = (),
    ) -> Linted:
        """Apply every rule of `resolver.core.lint` to images.

        All manifests and configs are read, each once. Of layers nothing is read, or with `deep` as
        few bytes as show what machine the programs of each image are made for.

        Args:
            references: of registries or local places, one or many.
            deep: look into layers too.
            max_bytes: of layers, as they are stored, that may be read for each platform; the last
                stretch may go past it.
            ignore: ids of rules that nobody wants to hear of.

        Raises:
            Malformed: a reference cannot be read, or there is no such rule; nobody was asked.
            ResolverError: the only image could not be looked at; of several, see `Linted.failures`.
        """
        from resolver.core.lint import rule  # noqa: PLC0415 - for this question alone
        from resolver.core.linted import Linted  # noqa: PLC0415
        from resolver.flow.batch import each  # noqa: PLC0415
        from resolver.flow.lint_deep import Depths  # noqa: PLC0415

        ignored = tuple(rule(each).id for each in ignore)
        named: list[str | Reference] = (
            [references] if isinstance(references, str | Reference) else list(references)
        )
        targets = [self._target(reference) for reference in named]
        jobs = self.settings.jobs if len(targets) == 1 else 1
        depths = Depths(max_bytes, jobs) if deep else None

        def look(target: Target) -> LintedImage:
            return self._linted(target, ignored, jobs, depths)

        images: list[LintedImage | Failure] = []
        for outcome in each(look, targets, jobs=self.settings.jobs):
            if not isinstance(outcome.value, ResolverError):
                images.append(outcome.value)
            elif len(targets) == 1:
                raise outcome.value
            else:
                images.append(Failure(str(outcome.item), None, outcome.value))
        return Linted(tuple(images))

    def _linted(
        self, target: Target, ignored: tuple[str, ...], jobs: int, depths: Depths | None
    ) -> LintedImage:
        from resolver.flow.lint import judge, look_at  # noqa: PLC0415 - for this question alone
        from resolver.flow.lint_deep import look_into  # noqa: PLC0415

        reader, warned = self._reader(target)
        subject = look_at(
            reader,
            lambda: self._ask(reader, target),
            target,
            self.table,
            jobs=jobs,
            warn=warned.append,
        )
        if depths is not None:
            looks = look_into(subject.images, self._layer_bytes(target), self.table, depths)
            subject = replace(subject, looks=looks)
        reader.tell_warnings()
        return judge(subject, ignored, warned)

    def _layer_bytes(self, target: Target) -> Callable[[Descriptor], Generator[bytes, None, None]]:
        """Make what reads layers: from the store where it holds them, else where the image is."""
        from resolver.flow.lint_bytes import local_bytes, registry_bytes  # noqa: PLC0415

        def read(layer: Descriptor) -> Generator[bytes, None, None]:
            if isinstance(target, LayoutTarget):
                return local_bytes(self._source(target), layer)
            if self._store.has(layer):
                return local_bytes(self._store, layer)
            if isinstance(target, StoreTarget) or self.settings.offline:
                what = f"the layer `{layer.digest}`"
                raise NotInStore(str(target.reference), what, str(self._store.root))
            # A registry gives out parts of blobs, as `core.ranged` has it.
            return registry_bytes(cast("RangedSource", self._source(target)), layer)

        return read
