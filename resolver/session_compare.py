"""The verbs of a session that hold images against one another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.platform import Platform
from resolver.errors import NotFound, PlatformNotOffered, Usage
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from resolver.core.builds import Build
    from resolver.core.compare import Terms
    from resolver.core.comparison import Comparison, ImageComparison
    from resolver.core.descriptor import Descriptor
    from resolver.core.gathered import Gathered
    from resolver.core.reference import Reference
    from resolver.core.thresholds import Thresholds
    from resolver.wiring import Opened, Wanted

    #: An image, and those of its builds that are compared.
    Side = tuple[Gathered, tuple[Build, ...]]
    Wanting = Callable[[Descriptor], bool]


#: Why layers are kept while they are read.
_PURPOSE = "compare"


class CompareVerbs(Wiring):
    """Compares the platforms of an image, and images with each other."""

    def compare(  # noqa: PLR0913 - each has a default and a name
        self,
        reference: str | Reference,
        platforms: Wanted | Sequence[Wanted] = None,
        *,
        base: Wanted = None,
        expect: Iterable[str | Platform] = (),
        expect_as: str | Reference | None = None,
        ignore: Iterable[str] = (),
        thresholds: Thresholds | None = None,
        files: bool = False,
    ) -> Comparison:
        """Find out how one image differs between its platforms.

        Manifests and configs are read once each, side by side, and kept in the store; layers only
        where their files are to be compared.

        Args:
            reference: an image of a registry, or a local place.
            platforms: what to compare, strictly; by default all that are offered.
            base: what the others are held against; by default linux/amd64, else the first.
            expect: platforms that must be offered.
            expect_as: another image, whose platforms must be offered.
            ignore: drift that is meant to be: `env.PATH`, `labels.org.opencontainers.*`.
            thresholds: what turns the answer into no, in `Comparison.reasons`.
            files: read the layers too, and compare the files in them; those of a registry come
                into the store.

        Raises:
            PlatformNotOffered: one of `platforms`, or `base`, is not offered.
            LimitExceeded: there are more than 100 builds.
            Usage: a threshold is about files, and they are not to be read.
            ResolverError: a name, or a document of what is compared, cannot be read.
        """
        from resolver.core.compare import compare  # noqa: PLC0415 - for this verb alone
        from resolver.core.thresholds import Thresholds, judge  # noqa: PLC0415

        wants = self._wants(platforms)
        terms = self._terms(base, expect, expect_as, ignore)
        limits = _checked(thresholds or Thresholds(), files=files)
        opened = self._open(reference)
        wants = self._at_own_level(wants, platforms, opened)
        gathered, builds = self._builds(opened, wants)
        found = compare(gathered, builds, terms)
        if files:
            from resolver.flow.compare_files import with_files  # noqa: PLC0415 - on demand

            with self._layers_of(opened.target, _PURPOSE) as content:
                found = with_files(found, content, self.table)
        return replace(found, reasons=judge(found, limits))

    def compare_images(  # noqa: PLR0913 - each has a default and a name
        self,
        first: str | Reference,
        second: str | Reference,
        platforms: Wanted | Sequence[Wanted] = None,
        *,
        expect: Iterable[str | Platform] = (),
        expect_as: str | Reference | None = None,
        ignore: Iterable[str] = (),
        thresholds: Thresholds | None = None,
        files: bool = False,
    ) -> ImageComparison:
        """Find out, platform by platform, what a second image is to the holder of a first.

        Where both names point at the same bytes, nothing behind these is read.

        Args:
            first: an image of a registry, or a local place.
            second: the same.
            platforms: what to compare, strictly; by default all that either offers.
            expect: platforms that the second must be offered for.
            expect_as: another image, whose platforms the second must be offered for.
            ignore: as for `compare`.
            thresholds: what turns the answer into no; by default that anything differs.
            files: as for `compare`, of the platforms that changed.

        Raises:
            PlatformNotOffered: neither offers one of `platforms`.
            ResolverError: as for `compare`.
        """
        from resolver.core.compare import compare_images  # noqa: PLC0415 - for this verb alone
        from resolver.core.thresholds import Thresholds, judge_images  # noqa: PLC0415

        wants = self._wants(platforms)
        terms = self._terms(None, expect, expect_as, ignore)
        limits = _checked(thresholds or Thresholds(), files=files)
        one, other = self._open(first), self._open(second)
        wants = self._at_own_level(wants, platforms, one, other)
        sides = self._sides(one, other, wants)
        found = compare_images(sides[0], sides[1], terms)
        if files and not found.is_same:
            from resolver.flow.compare_files import with_changed_files  # noqa: PLC0415

            with (
                self._layers_of(one.target, _PURPOSE) as before,
                self._layers_of(other.target, _PURPOSE) as after,
            ):
                found = with_changed_files(found, before, after, self.table)
        return replace(found, reasons=judge_images(found, limits))

    def _wants(self, platforms: Wanted | Sequence[Wanted]) -> tuple[Platform, ...]:
        """Read which platforms are wanted; none for all.

        Raises:
            InvalidPlatform: one is none.
        """
        named = (platforms,) if isinstance(platforms, str | Platform) else tuple(platforms or ())
        wished = [one for one in named if one is not None]
        return () if "all" in wished else tuple(self._one(one) for one in wished)

    def _at_own_level(
        self, wants: tuple[Platform, ...], platforms: Wanted | Sequence[Wanted], *images: Opened
    ) -> tuple[Platform, ...]:
        """Replace the platform of `local` by the level of it that the images offer."""
        named = (platforms,) if isinstance(platforms, str | Platform) else tuple(platforms or ())
        if "local" not in named or not wants:
            return wants
        from resolver.core.matching import own_level  # noqa: PLC0415 - for this word alone

        machine = self._one("local")
        offered = [platform for opened in images for platform in self._stated(opened)]
        return tuple(
            own_level(want, offered, self.table) if want == machine else want for want in wants
        )

    def _stated(self, opened: Opened) -> list[Platform | None]:
        from resolver.flow.gather import Depth  # noqa: PLC0415 - as above

        return [part.platform for part in self._gather_from(opened, Depth(), _silent).images]

    def _one(self, wanted: str | Platform) -> Platform:
        return self.wish(wanted).platforms[0]

    def _terms(
        self,
        base: Wanted,
        expect: Iterable[str | Platform],
        expect_as: str | Reference | None,
        ignore: Iterable[str],
    ) -> Terms:
        """Read everything that a comparison depends on besides the images themselves.

        Raises:
            Malformed: a platform or a rule cannot be read; nothing was asked of anybody.
            ResolverError: the image that says what to expect cannot be read.
        """
        from resolver.core.compare import Terms  # noqa: PLC0415 - for these verbs alone
        from resolver.core.ignoring import Ignoring  # noqa: PLC0415

        chosen = self._one(base) if base is not None else None
        rules = Ignoring.read(ignore)
        expected = [self._one(each) for each in expect]
        if expect_as is not None:
            expected += self._expected_of(expect_as)
        return Terms(chosen, tuple(dict.fromkeys(expected)), rules, self.table)

    def _expected_of(self, reference: str | Reference) -> list[Platform]:
        """List the platforms of another image; manifests are read where the index is silent."""
        from resolver.flow.gather import Depth  # noqa: PLC0415 - for this question alone

        found = self._gather(reference, Depth(), _silent).sound()
        platforms = [part.platform for part in found.images if part.platform is not None]
        if not platforms:
            raise NotFound(f"`{found.reference}` is offered for no platform at all")
        return platforms

    def _builds(
        self, opened: Opened, wants: tuple[Platform, ...]
    ) -> tuple[Gathered, tuple[Build, ...]]:
        """Read the builds of an image, or those that are wanted.

        Raises:
            PlatformNotOffered: there is none of a platform.
            ResolverError: one cannot be read.
        """
        found = self._side(opened, wants)
        self._check_wants(wants, [found[0]])
        if not found[1]:
            raise NotFound(f"`{found[0].reference}` has no image that could be compared")
        return found

    def _sides(self, one: Opened, other: Opened, wants: tuple[Platform, ...]) -> tuple[Side, Side]:
        """Read both images; where they are the same, not what is behind them.

        Raises:
            PlatformNotOffered: neither is offered for a platform.
            ResolverError: one cannot be read.
        """
        from resolver.flow.gather import Depth  # noqa: PLC0415 - for these verbs alone

        roots = [opened.asked.document.descriptor.digest for opened in (one, other)]
        if roots[0] == roots[1]:
            both = [self._gather_from(opened, Depth(), _silent) for opened in (one, other)]
            sides: tuple[Side, Side] = (both[0], ()), (both[1], ())
        else:
            sides = self._side(one, wants), self._side(other, wants)
        self._check_wants(wants, [gathered for gathered, _builds in sides])
        return sides

    def _side(self, opened: Opened, wants: tuple[Platform, ...]) -> Side:
        from resolver.core.builds import builds_of, wanted_of  # noqa: PLC0415 - for these verbs
        from resolver.core.select import select  # noqa: PLC0415
        from resolver.flow.gather import Depth  # noqa: PLC0415

        def wanted(entry: Descriptor) -> bool:
            """Read what fits, and what does not say what it is."""
            offered = [entry.platform]
            return _silent(entry) or any(
                select(offered, want, exact=True, table=self.table).ranking for want in wants
            )

        every: Wanting = _every if not wants else wanted
        gathered = self._gather_from(opened, Depth(), every)
        return gathered, wanted_of(builds_of(gathered, self.table), wants, self.table)

    def _check_wants(self, wants: tuple[Platform, ...], images: list[Gathered]) -> None:
        """Check that each platform that somebody named is offered.

        Raises:
            PlatformNotOffered: one is not.
        """
        from resolver.core.builds import missing_of  # noqa: PLC0415 - for these verbs alone

        offered = [part.platform for gathered in images for part in gathered.images]
        for want in missing_of(offered, wants, self.table):
            names = dict.fromkeys(str(platform) for platform in offered if platform is not None)
            raise PlatformNotOffered(images[-1].reference, str(want), list(names))


def _checked(thresholds: Thresholds, *, files: bool) -> Thresholds:
    """Give thresholds back if they can be looked at.

    Raises:
        Usage: they are about files, and these are not to be read.
    """
    if thresholds.needs_files and not files:
        raise Usage("files and packages are seen in layers alone", "add `--files` to read them")
    return thresholds


def _every(_entry: Descriptor) -> bool:
    return True


def _silent(entry: Descriptor) -> bool:
    """Say whether an index does not say what an entry is for."""
    return entry.platform is None
