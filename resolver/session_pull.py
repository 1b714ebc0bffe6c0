"""The verbs of a session that bring images here."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.answer import Resolution
from resolver.core.platform import Platform
from resolver.core.reference import Reference
from resolver.core.target import RegistryTarget
from resolver.errors import NotInStore, PlanTooLarge, ResolverError, StoreFault, Usage
from resolver.flow import resolve as resolving
from resolver.settings import DEFAULT_JOBS
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.core.content import Source
    from resolver.core.descriptor import Descriptor
    from resolver.core.plan import Plan, PlannedImage
    from resolver.core.pulled import Pulled
    from resolver.wiring import Wanted

#: What can be asked to be pulled: one, or several.
Named = str | Reference | Resolution

#: Blobs at once where nobody said; more only take each other's bandwidth.
_BLOBS = 4


class PullVerbs(Wiring):
    """Plans what is to be fetched, and fetches it."""

    def plan(
        self,
        references: Named | Iterable[Named],
        platforms: Wanted | Sequence[Wanted] = None,
        *,
        exact: bool = False,
        places: Iterable[str] = (),
        foreign: bool = False,
    ) -> Plan:
        """Find out what images need, what of it is held, and so what is left to fetch.

        Indexes and manifests are read, and kept in the store; layers are not.

        Args:
            references: of registries, or answers of `resolve`; one or many.
            platforms: as for `resolve`, one or many; `all` is every platform that is offered.
                Answers of `resolve` keep the platform they were found for.
            exact: refuse fallbacks.
            places: others on this machine to take content from, in order of preference: an OCI
                layout, an archive, another store, containerd's content folder.
            foreign: fetch also what publishers do not let registries hold.

        Raises:
            Malformed: something cannot be read; nothing was asked of anybody.
            ResolverError: as `resolve`; of several references, the failure of the first that
                fails. There is no plan then.

        """
        from resolver.flow.batch import each  # noqa: PLC0415 - for this question alone
        from resolver.flow.held import open_place  # noqa: PLC0415
        from resolver.flow.plan import make_plan  # noqa: PLC0415

        asked = [(one, self._pullable(one)) for one in _listed(references)]
        one = platforms is None or isinstance(platforms, str | Platform)
        wanted: list[Wanted] = [platforms] if one else list(platforms)  # type: ignore[list-item, arg-type]  # told apart above
        wishes = [None if each == "all" else self.wish(each, exact=exact) for each in wanted]
        opened = [open_place(place) for place in places]

        def find(one: tuple[Named, RegistryTarget]) -> tuple[PlannedImage, ...]:
            return self._planned(*one, wishes)

        images: list[PlannedImage] = []
        for outcome in each(find, asked, jobs=self.settings.jobs):
            if isinstance(outcome.value, ResolverError):
                raise outcome.value
            images.extend(outcome.value)
        return make_plan(images, self._store, opened, foreign=foreign)

    def unpacked(self, plan: Plan) -> tuple[Descriptor, ...]:
        """List the layers of a plan that a Docker engine on this machine has unpacked.

        For information: an engine gives no layer back as the registry has it, so none counts as
        held. Nothing is asked of anybody where no engine runs.

        Raises:
            ResolverError: an image's config, which tells layers by what is in them, cannot be read.
        """
        from resolver.flow.unpacked import unpacked_of  # noqa: PLC0415 - for this question alone
        from resolver.sources.daemon import unpacked_layers  # noqa: PLC0415

        there = unpacked_layers(self.settings.environment)
        found: dict[Descriptor, None] = {}
        for image in plan.images if there else ():
            reader, _ = self._reader(RegistryTarget(Reference.parse(image.reference)))
            digests = set(unpacked_of(reader, image, there))
            found.update(dict.fromkeys(each for each in image.layers if each.digest in digests))
        return tuple(found)

    def pull(
        self,
        what: Plan | Named | Iterable[Named],
        platforms: Wanted | Sequence[Wanted] = None,
        *,
        exact: bool = False,
        places: Iterable[str] = (),
        foreign: bool = False,
        max_download: int | None = None,
    ) -> Pulled:
        """Bring images into the store: what is missing of them, verified, the name last.

        Whatever ends it early, the next one fetches the rest alone. What goes on is told to the
        session's observer, see `resolver.core.events`.

        Args:
            what: a plan, which is carried out as it is, or what `plan` takes.
            platforms: as for `plan`; a plan has its own, and does not need this.
            exact: as for `plan`, likewise.
            places: as for `plan`, likewise.
            foreign: fetch also what publishers do not let registries hold.
            max_download: bytes that may be fetched; None for any number.

        Raises:
            PlanTooLarge: more would have to be fetched; nothing was.
            StoreFault: the store cannot be written.
            ResolverError: why the only reference, or the first of those that all failed, failed.

        """
        from resolver.core.plan import Plan  # noqa: PLC0415 - for this verb alone
        from resolver.flow import pull as pulling  # noqa: PLC0415
        from resolver.flow.held import open_place  # noqa: PLC0415

        if isinstance(what, Plan):
            plan = what
        else:
            plan = self.plan(what, platforms, exact=exact, places=places, foreign=foreign)
        if max_download is not None and plan.bytes_missing > max_download:
            raise PlanTooLarge(plan.bytes_missing, max_download)
        names = dict.fromkeys(piece.place for piece in plan.pieces if piece.place)
        jobs = self.settings.jobs if self.settings.jobs != DEFAULT_JOBS else _BLOBS
        done = pulling.pull(
            plan,
            self._repository,
            self._store,
            pulling.PullOptions(jobs=jobs, foreign=foreign),
            self._observe,
            places=[open_place(name) for name in names],
            interrupt=self.close,
        )
        self._note_use(one.image for one in done.images if one.status == "up-to-date")
        return done

    def _pullable(self, named: Named) -> RegistryTarget:
        """Read what is to be pulled.

        Raises:
            Malformed: it is no image of a registry.

        """
        reference = named.reference if isinstance(named, Resolution) else named
        target = self._target(reference)
        if not isinstance(target, RegistryTarget):
            raise Usage(
                f"`{target}` is here already: images are pulled from registries",
                "give the image's name, and the place with `--from`",
            )
        return target

    def _planned(
        self,
        named: Named,
        target: RegistryTarget,
        wishes: Sequence[resolving.Wish | None],
    ) -> tuple[PlannedImage, ...]:
        """Find the images that one name means; `None` among the wishes is every platform."""
        from resolver.flow.plan import plan_images  # noqa: PLC0415 - for this question alone

        reader, warned = self._reader(target)
        if isinstance(named, Resolution):
            root = named.index or named.manifest
            asked = self._ask(reader, RegistryTarget(target.reference.with_digest(root.digest)))
            asked = replace(asked, text=named.reference)
            # The very entry that was found, as its index writes it, and not what would be now.
            found = (named.platform,) if named.platform is not None else None
            explicit = found is not None or named.explicit
            wishes = [
                resolving.Wish(
                    found or named.wanted,
                    explicit,
                    exact=found is not None,
                    entry=named.manifest.digest if named.index is not None else None,
                )
            ]
        else:
            asked = self._ask(reader, target)
        every = resolving.Wish((), explicit=True, exact=True)
        expanded: list[resolving.Wish] = []
        for wish in wishes:
            expanded += [wish] if wish is not None else self._every(reader, asked, every)
        images = plan_images(reader, asked, expanded, self.table)
        reader.tell_warnings()
        return tuple(
            replace(image, warnings=(*warned, *image.warnings)) if not number else image
            for number, image in enumerate(images)
        )

    def _repository(self, image: PlannedImage) -> Source:
        """Open where an image comes from.

        Raises:
            NotInStore: only the store may answer.

        """
        if self.settings.offline:
            raise NotInStore(image.reference, "all of it", str(self._store.root))
        return self._source(RegistryTarget(Reference.parse(image.reference)))

    def _note_use(self, images: Iterable[PlannedImage]) -> None:
        """Note that images are still used; collections ask. A read-only store keeps them anyway."""
        from resolver.core.pulled_name import PulledImage, PulledName  # noqa: PLC0415 - rarely

        for image in images:
            held = (PulledImage(image.platform, image.manifest),)
            with suppress(StoreFault):
                self._store.name(PulledName(image.reference, image.root, held, int(time.time())))


def _listed(references: Named | Iterable[Named]) -> list[Named]:
    one = isinstance(references, str | Reference | Resolution)
    return [references] if one else list(references)  # type: ignore[list-item, arg-type]  # told apart above
