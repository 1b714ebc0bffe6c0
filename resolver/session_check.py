"""The verbs of a session that a pipeline asks: is all there, and which jobs does it make?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolver.core.answer import Failure
from resolver.core.reference import Reference
from resolver.errors import ResolverError, Usage
from resolver.values import dataclass
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from resolver.core.checked import Checked, CheckedImage
    from resolver.core.findings import Finding, Place
    from resolver.core.matrix import Matrix
    from resolver.core.platform import Platform
    from resolver.core.policy import Policy
    from resolver.core.requirements import Requirements
    from resolver.core.target import Target


@dataclass(frozen=True, slots=True)
class _Asked:
    """One image, what is required of it, and the line of the policy that says so."""

    reference: str | Reference
    wanted: Requirements
    place: Place | None = None


class CheckVerbs(Wiring):
    """Holds images against what is required of them, and fans out over their platforms."""

    def check(
        self,
        references: str | Reference | Iterable[str | Reference],
        wanted: Requirements,
        *,
        now: datetime | None = None,
    ) -> Checked:
        """Say whether images have what is required; each missing thing is a finding.

        One request for an image's index; more only for age, attestations and lint.

        Args:
            references: of registries or local places, one or many.
            wanted: of each of them.
            now: what ages are counted from, aware of its zone; by default this machine's clock.

        Raises:
            Malformed: a reference cannot be read, or nothing is required; nobody was asked.
            ResolverError: the only image could not be looked at; of several, see
                `Checked.failures`.
        """
        named: list[str | Reference] = (
            [references] if isinstance(references, str | Reference) else list(references)
        )
        return self._check_all([_Asked(reference, wanted) for reference in named], now)

    def check_policy(
        self,
        policy: Policy | Path | str,
        references: Iterable[str | Reference] = (),
        *,
        now: datetime | None = None,
    ) -> Checked:
        """Hold the images of a policy against it; see `resolver.core.policy` for its form.

        Args:
            policy: read already, or a file.
            references: further images, held against the policy's defaults.
            now: as for `check`.

        Raises:
            BadFile: the policy says something that cannot be used; nobody was asked.
            ResolverError: as `check`.
        """
        from resolver.core.policy import Policy as Read  # noqa: PLC0415 - for policies alone

        rules = policy if isinstance(policy, Read) else self.read_policy(policy)
        asked = [_Asked(image.reference, image.wanted, image.place) for image in rules.images]
        asked += [_Asked(reference, rules.defaults) for reference in references]
        return self._check_all(asked, now)

    def matrix(
        self,
        reference: str | Reference,
        platforms: Iterable[str | Platform] = (),
        *,
        system: str = "github",
        runners: Iterable[str] = (),
        require_runner: bool = False,
    ) -> Matrix:
        """Make a job of every build of an image; one request, for its index.

        Args:
            reference: of a registry or a local place.
            platforms: only these, matched exactly; none for every one.
            system: `github`, `gitlab` or `json`: whose machines and limits.
            runners: `PLATFORM=LABEL`, before the machines that are known.
            require_runner: refuse a job without a machine.

        Raises:
            Malformed: something cannot be read; nobody was asked.
            PlatformNotOffered: a wanted platform is none of the image's.
            NotFound: there is no such image, or no build in it.
            RunnerMissing, MatrixTooLarge: see `resolver.core.matrix`.
        """
        from resolver.core.matching import own_level  # noqa: PLC0415
        from resolver.core.matrix import (  # noqa: PLC0415 - for this question alone
            make_matrix,
            parse_runner,
            system_of,
        )
        from resolver.flow.gather import gather_platforms  # noqa: PLC0415

        chosen = system_of(system)
        rules = [parse_runner(text, self.table) for text in runners]
        wishes = [self.wish(text) for text in platforms]
        target = self._target(reference)
        reader, warned = self._reader(target)
        asked = self._ask(reader, target)
        image = gather_platforms(reader, asked, self.table, jobs=self.settings.jobs).sound()
        reader.tell_warnings()
        told = replace(image, warnings=tuple(warned))
        offered = [part.platform for part in image.images]
        # Of the platforms of this machine the last: on macOS, what runs in its virtual machine.
        wanted = [
            own_level(wish.platforms[-1], offered, self.table) if wish.local else wish.platforms[-1]
            for wish in wishes
        ]
        return make_matrix(told, wanted, chosen, rules, self.table, require_runner=require_runner)

    def read_policy(
        self,
        path: Path | str,
        over: Callable[[Requirements], Requirements] = lambda defaults: defaults,
    ) -> Policy:
        """Read a policy file, in YAML or JSON; `-` is standard input.

        Args:
            path: the file.
            over: changes the policy's defaults before images take them.

        Raises:
            BadFile: it says something that cannot be used; names line and column.
        """
        from resolver import strict_yaml  # noqa: PLC0415 - loads YAML
        from resolver.core.policy import read_policy  # noqa: PLC0415 - for policies alone

        return read_policy(strict_yaml.read(path), self.table, over)

    def _check_all(self, questions: Sequence[_Asked], now: datetime | None) -> Checked:
        from resolver.core.checked import Checked  # noqa: PLC0415 - for this question alone
        from resolver.flow.batch import each  # noqa: PLC0415

        targets = []
        for asked in questions:
            if asked.wanted.is_empty:
                raise Usage(
                    f"nothing is required of `{asked.reference}`",
                    "say what: `--require linux/amd64,linux/arm64`",
                )
            targets.append((self._target(asked.reference), asked))
            if asked.wanted.same_as:
                self._target(asked.wanted.same_as)
        moment = now or _now()
        jobs = self.settings.jobs if len(targets) == 1 else 1

        def look(pair: tuple[Target, _Asked]) -> CheckedImage:
            target, asked = pair
            found = self._checked(target, asked.wanted, moment, jobs)
            placed = tuple(replace(each, place=asked.place) for each in found.findings)
            return replace(found, findings=placed)

        images: list[CheckedImage | Failure] = []
        for outcome in each(look, targets, jobs=self.settings.jobs):
            if not isinstance(outcome.value, ResolverError):
                images.append(outcome.value)
            elif len(targets) == 1:
                raise outcome.value
            else:
                images.append(Failure(str(outcome.item[0]), None, outcome.value))
        return Checked(tuple(images))

    def _checked(
        self, target: Target, asked_for: Requirements, now: datetime, jobs: int
    ) -> CheckedImage:
        from resolver.flow import check as checking  # noqa: PLC0415 - for this question alone

        wanted = checking.settle(asked_for, self._platforms_of)
        reader, warned = self._reader(target)
        asked = self._ask(reader, target)
        image = checking.look_at(reader, asked, wanted, self.table, jobs=jobs, now=now)
        more: tuple[Finding, ...] = ()
        if wanted.lint is not None:
            from resolver.flow.lint import judge, look_at  # noqa: PLC0415 - where it is asked for

            subject = look_at(
                reader, lambda: asked, target, self.table, jobs=jobs, warn=warned.append
            )
            more = judge(subject, (), ()).findings
        reader.tell_warnings()
        return checking.judge(image, asked, more, warned)

    def _platforms_of(self, reference: str) -> tuple[Platform, ...]:
        """List the platforms of another image; what the store holds costs one HEAD."""
        from resolver.flow.check import platforms_of  # noqa: PLC0415 - for "the same as" alone

        target = self._target(reference)
        reader, _warned = self._reader(target)
        found = platforms_of(reader, self._ask(reader, target), self.table, jobs=1)
        if not found:
            raise Usage(
                f"`{reference}` is offered for no platform, so nothing can have the same",
                "name an image with platforms after `--same-platforms-as`",
            )
        return found


def _now() -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415 - for ages alone

    return datetime.now(UTC)
