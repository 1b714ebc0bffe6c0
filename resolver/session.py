"""Session: the entry point of the library, one method per verb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from resolver.core.results.events import Observer, ignore
from resolver.settings import (
    KEEP_UNTAGGED,
    LINT_MAX_BYTES,
    LOCK_FILE,
    QUOTA_PREVIEW,
    SEARCH_LIMIT,
    SERVE_FRESH,
)
from resolver.verbs.context import Context

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    import httpx

    from resolver.core.check.check import Checked, Requirements
    from resolver.core.check.policy import Policy
    from resolver.core.compare.compare import Comparison, ImageComparison, Thresholds
    from resolver.core.lint.lint import Linted
    from resolver.core.lockfile.drift import LockCheck
    from resolver.core.lockfile.entries import ExportedLockEntry
    from resolver.core.lockfile.lock import Locked
    from resolver.core.oci.content import Source
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.reference import Reference
    from resolver.core.pin.decide import Pinned
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.core.results.account import (
        Hits,
        LoggedIn,
        LoggedOut,
        Quota,
        Repositories,
        SearchFilters,
    )
    from resolver.core.results.attestations import Attestations, ShownDocument, TrustOptions
    from resolver.core.results.copy import Copied, CopyPlan, IndexWritten, Synced
    from resolver.core.results.doctor import Checkup, CheckupRow, Console
    from resolver.core.results.export import Exported
    from resolver.core.results.matrix import Matrix
    from resolver.core.results.needs import Machine, Needs
    from resolver.core.results.plan import ChunkMode, Plan
    from resolver.core.results.pull import Pulled
    from resolver.core.results.resolve import Failure, Inspection, Offers, Resolution
    from resolver.core.results.store import Collected, Removed, Retention, StoredImage, Verified
    from resolver.core.results.store import DiskUsage as Used
    from resolver.settings import Flags, Settings
    from resolver.verbs.context import NamesLike, PlatformLike, PlatformsLike
    from resolver.verbs.lock import ByLock
    from resolver.verbs.merge import Shard
    from resolver.verbs.plan import Named
    from resolver.verbs.serve.server import Server
    from resolver.verbs.threads import KeptResults


class Session:
    """Resolves, inspects, pulls and exports images; one client, one store, one platform table.

    Safe to share between threads. Close it, or use it in a `with` block, to close its connections.

    Args:
        store: folder of the local store; by default the user's cache folder.
        offline: answer from the store alone.
        flags: all other settings, as on the command line.
        environment: read instead of `os.environ`, for tests and embedders.
        observe: receives warnings, notes and progress during a call, one event at a time, perhaps
            from another thread.
        sources: further places to read images from: with `{"zip": open_zip}`, the reference
            `zip:app.zip` is the image that `open_zip("app.zip")` has under the empty name.
        http_client: sends all requests, with its own proxies, TLS settings and hooks, except to
            hosts that have settings of their own. Cookies, redirects and timeouts stay with the
            session. It is not closed.
    """

    def __init__(  # noqa: PLR0913 - each has a default and a name
        self,
        store: str | Path | None = None,
        *,
        offline: bool | None = None,
        flags: Flags | None = None,
        environment: Mapping[str, str] | None = None,
        observe: Observer = ignore,
        sources: Mapping[str, Callable[[str], Source]] | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._context = Context(
            store,
            offline=offline,
            flags=flags,
            environment=environment,
            observe=observe,
            sources=sources,
            http_client=http_client,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._context.close()

    def clean(self, text: str) -> str:
        """Replace every secret that this session has learned by asterisks."""
        return self._context.clean(text)

    @property
    def settings(self) -> Settings:
        """The settings that this session decided on."""
        return self._context.settings

    @property
    def table(self) -> PlatformTable:
        """The platform facts that this session matches by."""
        return self._context.table

    def resolve(  # noqa: PLR0913 - one for each option of the verb
        self,
        reference: str | Reference,
        platform: PlatformLike = None,
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
        verify_tag: bool = False,
        verify_cpu: bool = False,
    ) -> Resolution:
        """Find the manifest that a reference means on one platform.

        Args:
            reference: a registry reference, or a local place (`oci:DIR:TAG`).
            platform: `linux/arm64`, `windows/amd64:10.0.20348`, `local`; by default what
                `DOCKER_DEFAULT_PLATFORM` names, else this machine's own.
            exact: reject fallbacks.
            verify: read the image's own config too, and compare it with the index.
            strict: the same, and raise an error for a contradiction instead of a warning.
            verify_tag: for `name:tag@digest`, check whether the tag still points there.
            verify_cpu: read the start of the layers too, and warn of what the programs need and
                this machine lacks.

        Raises:
            Malformed: reference or platform is invalid; no request was sent.
            NotFound: no such repository, tag or platform.
            Denied, Unavailable, Untrusted, Offline: see `resolver.errors`.
        """
        from resolver.verbs.resolve import resolve  # noqa: PLC0415

        return resolve(
            self._context,
            reference,
            platform,
            exact=exact,
            verify=verify,
            strict=strict,
            verify_tag=verify_tag,
            verify_cpu=verify_cpu,
        )

    def resolve_each(  # noqa: PLR0913 - as above
        self,
        references: NamesLike,
        platforms: PlatformsLike = (None,),
        *,
        exact: bool = False,
        verify: bool = False,
        strict: bool = False,
        verify_tag: bool = False,
        verify_cpu: bool = False,
        executor: Executor | None = None,
    ) -> Iterator[Resolution | Failure]:
        """Resolve many references in parallel; answers have the order of the questions.

        Every reference and platform is parsed before the first request, so that malformed input
        costs nothing. A reference that fails is a `Failure` in its place, and does not end the
        others. The platform `all` means every platform an image offers.

        With an `executor` of `concurrent.futures`, batches of references in registries are answered
        by its workers, with their own credentials; a batch that fails is a `Failure` of each of its
        references. See docs/fleet.md.

        Raises:
            Malformed: a reference or platform cannot be read.
        """
        from resolver.verbs.resolve import resolve_each  # noqa: PLC0415

        return resolve_each(
            self._context,
            references,
            platforms,
            exact=exact,
            verify=verify,
            strict=strict,
            verify_tag=verify_tag,
            verify_cpu=verify_cpu,
            executor=executor,
        )

    def keep_results(self, results: KeptResults | None) -> None:
        """Use and extend a file of answers in every batch verb; None ends that.

        Batch verbs are `resolve_each`, `check`, `check_policy`, `lint` and `check_lock`.
        """
        self._context.results = results

    def platforms(self, reference: str | Reference, *, sizes: bool = True) -> Offers:
        """List the platforms an image is offered for; with sizes, each manifest is read once."""
        from resolver.verbs.inspect import platforms  # noqa: PLC0415

        return platforms(self._context, reference, sizes=sizes)

    def inspect(
        self,
        reference: str | Reference,
        platform: PlatformLike = None,
        *,
        config: bool = True,
        choose: bool = False,
        exact: bool = False,
        strict: bool = False,
    ) -> Inspection:
        """Read the documents behind a reference; without a platform an index is shown as it is.

        With `choose`, an index is resolved for the default platform if none is requested.
        """
        from resolver.verbs.inspect import inspect  # noqa: PLC0415

        return inspect(
            self._context,
            reference,
            platform,
            config=config,
            choose=choose,
            exact=exact,
            strict=strict,
        )

    def tags(  # noqa: PLR0913 - each of them narrows the list by itself
        self,
        repository: str | Reference,
        *,
        platform: PlatformLike = None,
        exact: bool = False,
        semver: str | None = None,
        suffix: str | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        newest: bool = False,
        limit: int | None = None,
        max_requests: int = 200,
    ) -> Iterator[str]:
        """List the tags of a repository, page by page, in the registry's order.

        Args:
            repository: a tag or digest in it is ignored.
            platform: only tags that offer it as an image: two requests for each of them, and one
                for others. Documents are read once and kept.
            exact: reject fallbacks.
            semver: only tags that are versions in this range, see `resolver.core.registry.tags`.
            suffix: only tags of this flavour, such as `-alpine`; builds of it are included.
            include: only tags that match one of these globs.
            exclude: no tags that match one of these globs.
            newest: newest first, by the age that tags show; the whole list is read first.
            limit: stop after this many; filtered tags do not count.
            max_requests: budget of document requests, if a platform is given.

        Raises:
            Malformed: range, glob or platform is invalid; no request was sent.
            Negative: the budget is spent; the tags found so far were yielded.
        """
        from resolver.verbs.tags import tags  # noqa: PLC0415

        return tags(
            self._context,
            repository,
            platform=platform,
            exact=exact,
            semver=semver,
            suffix=suffix,
            include=include,
            exclude=exclude,
            newest=newest,
            limit=limit,
            max_requests=max_requests,
        )

    def attestations(
        self,
        reference: str | Reference,
        platform: PlatformLike = None,
        *,
        trust: TrustOptions | None = None,
    ) -> Attestations:
        """List the signatures, SBOMs and provenance of an index and of each of its images.

        Args:
            reference: of a registry or a local place.
            platform: look at the image for this platform alone.
            trust: who is trusted to sign; nothing is verified without it.

        Raises:
            Usage: a key or a trusted root is invalid; no request was sent.
            ResolverError: the index or a list of referrers cannot be read.
        """
        from resolver.verbs.attestations import attestations  # noqa: PLC0415

        return attestations(self._context, reference, platform, trust=trust)

    def show_attestation(
        self,
        reference: str | Reference,
        kind: str,
        platform: PlatformLike = None,
        *,
        trust: TrustOptions | None = None,
    ) -> ShownDocument:
        """Read one attestation: the statement or document exactly as stored.

        Args:
            reference: of a registry or a local place.
            kind: `signature`, `sbom`, `provenance` or `other`.
            platform: of the image it is about; by default it is that of the index.
            trust: with it, the attestation must be verified.

        Raises:
            NotFound: there is none.
            Negative: it is not about the image, or not verified.
        """
        from resolver.verbs.attestations import show_attestation  # noqa: PLC0415

        return show_attestation(self._context, reference, kind, platform, trust=trust)

    def check(
        self,
        references: NamesLike,
        wanted: Requirements,
        *,
        now: datetime | None = None,
        index_only: bool = False,
        executor: Executor | None = None,
    ) -> Checked:
        """Check that images meet requirements; each missing thing is a finding.

        One request for an image's index, and one for the manifest of each entry that a platform
        depends on: it may be an artifact. More only for age, attestations and lint.

        Args:
            references: of registries or local places, one or many.
            wanted: the requirements for each of them.
            now: the time that ages are computed from, with a zone; by default this machine's clock.
            index_only: read the index alone: an artifact that is listed as an image counts as one.
            executor: as for `resolve_each`.

        Raises:
            Malformed: a reference is invalid, there are no requirements, or one of them needs more
                than the index with `index_only`; no request was sent.
            ResolverError: the only image could not be read; for several, see
                `Checked.failures`.
        """
        from resolver.verbs.check import check  # noqa: PLC0415

        return check(
            self._context, references, wanted, now=now, index_only=index_only, executor=executor
        )

    def check_policy(
        self,
        policy: Policy | Path | str,
        references: NamesLike = (),
        *,
        now: datetime | None = None,
        index_only: bool = False,
        executor: Executor | None = None,
    ) -> Checked:
        """Check images against a policy; see `resolver.core.check.policy` for its form.

        Args:
            policy: a parsed policy, or a file.
            references: further images, checked against the policy's defaults.
            now: as for `check`.
            index_only: as for `check`.
            executor: as for `resolve_each`.

        Raises:
            BadFile: the policy is invalid; no request was sent.
            ResolverError: as `check` raises.
        """
        from resolver.verbs.check import check_policy  # noqa: PLC0415

        return check_policy(
            self._context, policy, references, now=now, index_only=index_only, executor=executor
        )

    def read_nodes(self, path: Path | str) -> tuple[Machine, ...]:
        """Read the nodes of a cluster, for `Requirements.nodes`; see `kubectl get nodes -o json`.

        Raises:
            BadFile: it cannot be read, or is not a list of nodes.
        """
        from resolver.verbs.check import read_nodes  # noqa: PLC0415

        return read_nodes(self._context, path)

    def matrix(
        self,
        reference: str | Reference,
        platforms: PlatformsLike = (),
        *,
        system: str = "github",
        runners: Iterable[str] = (),
        require_runner: bool = False,
        index_only: bool = False,
    ) -> Matrix:
        """Make a CI job for every build of an image.

        One request for its index, and one for the manifest of each entry that becomes a job: it may
        be an artifact.

        Args:
            reference: of a registry or a local place.
            platforms: only these, matched exactly; none for all.
            system: `github`, `gitlab` or `json`: decides about runners and limits.
            runners: `PLATFORM=LABEL`, before the built-in ones.
            require_runner: reject a job without a runner.
            index_only: read the index alone: an artifact that is listed as an image makes a job.

        Raises:
            Malformed: an argument is invalid; no request was sent.
            PlatformNotOffered: the image lacks a requested platform.
            NotFound: there is no such image, or no build in it.
            Negative: see `resolver.core.results.matrix`.
        """
        from resolver.verbs.check import matrix  # noqa: PLC0415

        return matrix(
            self._context,
            reference,
            platforms,
            system=system,
            runners=runners,
            require_runner=require_runner,
            index_only=index_only,
        )

    def read_policy(
        self,
        path: Path | str,
        over: Callable[[Requirements], Requirements] = lambda defaults: defaults,
    ) -> Policy:
        """Parse a policy file, in YAML or JSON; `-` is standard input.

        Args:
            path: the file.
            over: changes the policy's defaults before images take them.

        Raises:
            BadFile: the policy is invalid; names line and column.
        """
        from resolver.verbs.check import read_policy  # noqa: PLC0415

        return read_policy(self._context, path, over)

    def compare(  # noqa: PLR0913 - each has a default and a name
        self,
        reference: str | Reference,
        platforms: PlatformsLike = None,
        *,
        base: PlatformLike = None,
        expect: PlatformsLike = (),
        expect_as: str | Reference | None = None,
        ignore: Iterable[str] = (),
        thresholds: Thresholds | None = None,
        files: bool = False,
        needs: bool = False,
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
            ignore: differences that are meant to be: `env.PATH`, `labels.org.opencontainers.*`,
                `files.owner`, `files.xattrs.security.selinux`.
            thresholds: what turns the answer into no, in `Comparison.reasons`.
            files: read the layers too, and compare the files in them; those of a registry come
                into the store.
            needs: read what the programs need too, from the start of the layers.

        Raises:
            PlatformNotOffered: one of `platforms`, or `base`, is not offered.
            LimitExceeded: there are more than 100 builds.
            Usage: a threshold is about files, and they are not to be read.
            ResolverError: a name, or a document of what is compared, cannot be read.
        """
        from resolver.verbs.compare import compare  # noqa: PLC0415

        return compare(
            self._context,
            reference,
            platforms,
            base=base,
            expect=expect,
            expect_as=expect_as,
            ignore=ignore,
            thresholds=thresholds,
            files=files,
            needs=needs,
        )

    def compare_images(  # noqa: PLR0913 - each has a default and a name
        self,
        first: str | Reference,
        second: str | Reference,
        platforms: PlatformsLike = None,
        *,
        expect: PlatformsLike = (),
        expect_as: str | Reference | None = None,
        ignore: Iterable[str] = (),
        thresholds: Thresholds | None = None,
        files: bool = False,
        needs: bool = False,
        attestations: bool = False,
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
            needs: as for `compare`.
            attestations: compare what is attached to both, also if they are the same.

        Raises:
            PlatformNotOffered: neither offers one of `platforms`.
            ResolverError: as for `compare`.
        """
        from resolver.verbs.compare import compare_images  # noqa: PLC0415

        return compare_images(
            self._context,
            first,
            second,
            platforms,
            expect=expect,
            expect_as=expect_as,
            ignore=ignore,
            thresholds=thresholds,
            files=files,
            needs=needs,
            attestations=attestations,
        )

    def login(self, registry: str = "docker.io") -> LoggedIn:
        """Store the session's user name and password for a registry, after it accepted them.

        Stored where Docker stores logins: in the helper that its configuration names, else in the
        configuration file itself, readable by this user only.

        Args:
            registry: `host[:port]`; `docker.io` is Docker Hub.

        Raises:
            Usage: the session has no user name and password, or is offline.
            AuthenticationFailed: the registry rejects them; nothing was stored.
            Unavailable: the registry cannot be reached; nothing was stored.
            OutputFault, HelperFailed: they cannot be stored.
        """
        from resolver.verbs.account import login  # noqa: PLC0415

        return login(self._context, registry)

    def logout(self, registry: str = "docker.io") -> LoggedOut:
        """Remove the login for a registry from the helper and the file, without a request.

        Raises:
            InvalidConfiguration: the file is malformed; it is unchanged.
            OutputFault, HelperFailed: the login cannot be removed.
        """
        from resolver.verbs.account import logout  # noqa: PLC0415

        return logout(self._context, registry)

    def search(
        self, term: str, *, limit: int = SEARCH_LIMIT, filters: SearchFilters | None = None
    ) -> Hits:
        """Search Docker Hub, or with `HOST` or `HOST/TERM` another registry.

        For a registry without a search, or without a term, the list of its repositories is filtered
        here. A word that looks like a host is never sent to Docker Hub, unless it follows
        `docker.io/`.

        Args:
            term: the words to search for.
            limit: number of hits, 1 to 100; filters are applied to these.
            filters: which hits to keep.

        Raises:
            Usage: the term is empty or contains a host, or the session is offline.
            InvalidReference: a word that looks like a host is not a valid one.
            NotFound: the registry has neither a search nor a list.
            Denied, Unavailable, Untrusted: the request failed.
        """
        from resolver.verbs.account import search  # noqa: PLC0415

        return search(self._context, term, limit=limit, filters=filters)

    def quota(self, reference: str | Reference = QUOTA_PREVIEW) -> Quota:
        """Read the remaining pulls of a registry's rate limit, without using one.

        Args:
            reference: an image there; by default Docker Hub's image for this purpose.

        Raises:
            Usage: the reference is not an image in a registry, or the session is offline.
            NotFound, Denied, Unavailable: the request failed.
        """
        from resolver.verbs.account import quota  # noqa: PLC0415

        return quota(self._context, reference)

    def doctor(
        self,
        hosts: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        console: Console | None = None,
        set_aside: Sequence[CheckupRow] = (),
    ) -> Checkup:
        """Check the installation and this machine; a fault is a row of the result, not an error.

        Only the registries named here get requests, one each and without a login; no helper is run;
        a missing store is not created.

        Args:
            hosts: registries whose answer and clock to check.
            environment: the unfiltered one, if the session was given less.
            console: where the answer is shown.
            set_aside: rows about variables that the session could not use.

        Raises:
            InvalidReference: a name is not a registry.
        """
        from resolver.verbs.account import doctor  # noqa: PLC0415

        return doctor(
            self._context, hosts, environment=environment, console=console, set_aside=set_aside
        )

    def lint(
        self,
        references: NamesLike,
        *,
        deep: bool = False,
        max_bytes: int = LINT_MAX_BYTES,
        ignore: Iterable[str] = (),
        executor: Executor | None = None,
    ) -> Linted:
        """Apply every rule of `resolver.core.lint.lint` to images.

        All manifests and configs are read, each once. Layers are not read, or with `deep` only as
        far as needed to identify the machine that the programs of each image are built for.

        Args:
            references: of registries or local places, one or many.
            deep: look into layers too.
            max_bytes: budget of layer bytes, as stored, for each platform; the last range may
                exceed it.
            ignore: ids of rules to skip.
            executor: as for `resolve_each`.

        Raises:
            Malformed: a reference is invalid, or unknown rule; no request was sent.
            ResolverError: the only image could not be read; for several, see `Linted.failures`.
        """
        from resolver.verbs.lint import lint  # noqa: PLC0415

        return lint(
            self._context,
            references,
            deep=deep,
            max_bytes=max_bytes,
            ignore=ignore,
            executor=executor,
        )

    def needs(
        self,
        reference: str | Reference,
        platforms: Iterable[PlatformLike] = (),
        *,
        every: bool = False,
        max_bytes: int = LINT_MAX_BYTES,
    ) -> Needs:
        """Find out what the programs of an image need of the machine, from its layers.

        The layers are read in ranges, from the top down, until the entrypoint, its loader and its
        libraries were found; nothing is stored or executed.

        Args:
            reference: of a registry or a local place.
            platforms: those to read; none for all.
            every: read every ELF file, not only what the image starts.
            max_bytes: budget of layer bytes, as stored, for each platform; the last range may
                exceed it.

        Raises:
            PlatformNotOffered: the image has nothing that runs on one of `platforms`.
            ResolverError: the image cannot be read; a damaged layer is part of the answer.
        """
        from resolver.verbs.needs import needs  # noqa: PLC0415

        return needs(self._context, reference, platforms, every=every, max_bytes=max_bytes)

    def lock(
        self,
        references: NamesLike = (),
        platforms: PlatformsLike = (),
        *,
        update: NamesLike | None = None,
        file: str | Path = LOCK_FILE,
    ) -> Locked:
        """Record what references mean now, in a lock file; its other references stay.

        One request for each reference, and two more for an image without an index. Nothing is
        written unless every reference could be looked up.

        Args:
            references: of registries.
            platforms: those to lock; by default those that the file locks already, else all that an
                image offers, as with `all`.
            update: references in the lock to look up again; empty for all of them. A name without a
                tag means all its tags.
            file: the lock file; it need not exist yet.

        Raises:
            Malformed: a reference, a platform or the lock file is invalid; no request was sent.
            OutputFault: the lock file cannot be written.
            ResolverError: the only reference could not be looked up; for several, see
                `Locked.failures`.
        """
        from resolver.verbs.lock import lock  # noqa: PLC0415

        return lock(self._context, references, platforms, update=update, file=file)

    def unlock(self, names: NamesLike, *, file: str | Path = LOCK_FILE) -> Locked:
        """Remove references from a lock file, without a request.

        Raises:
            NotLocked: a name is not in it; nothing was written.
            Malformed, OutputFault: as `lock` raises.
        """
        from resolver.verbs.lock import unlock  # noqa: PLC0415

        return unlock(names, file=file)

    def check_lock(
        self,
        names: NamesLike = (),
        platforms: PlatformsLike = (),
        *,
        file: str | Path = LOCK_FILE,
        executor: Executor | None = None,
        shard: Shard | None = None,
    ) -> LockCheck:
        """Report what has moved since it was locked: one HEAD for each reference, in parallel.

        The new index is read only if the digest of the root has changed, to find the platforms
        whose image changed.

        Args:
            names: references to check; by default all that are locked.
            platforms: those to check; by default, or with `all`, all that are locked.
            file: the lock file.
            executor: as for `resolve_each`.
            shard: only this part of the references.

        Raises:
            Malformed: a name, a platform or the lock file is invalid; no request was sent.
            NotLocked: a name is not in the lock file; a platform that was not locked is a failure
                in its place.
        """
        from resolver.verbs.lock import check_lock  # noqa: PLC0415

        return check_lock(
            self._context, names, platforms, file=file, executor=executor, shard=shard
        )

    def by_lock(self, file: str | Path = LOCK_FILE) -> ByLock:
        """Return a resolver that reads a lock file alone; `plan` and `pull` take its answers.

        Raises:
            Malformed, BadLock, LockLimit: the lock file is missing or invalid.
        """
        from resolver.verbs.lock import by_lock  # noqa: PLC0415

        return by_lock(self._context, file)

    def lock_entries(
        self,
        names: NamesLike = (),
        platform: PlatformLike = None,
        *,
        services: Mapping[str, Sequence[str]] | None = None,
        file: str | Path = LOCK_FILE,
    ) -> tuple[ExportedLockEntry, ...]:
        """Return the entries of a lock file for other tools, for `resolver lock export`.

        Args:
            names: references; by default all that are locked.
            platform: the image for this platform instead of the index.
            services: canonical references to the services of a compose file.
            file: the lock file.

        Raises:
            NotLocked: a name is not in the lock file, or not for the platform.
            Malformed: a name, the platform or the lock file cannot be read.
        """
        from resolver.verbs.lock import lock_entries  # noqa: PLC0415

        return lock_entries(self._context, names, platform, services=services, file=file)

    def serve_mirror(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        upstream: str | None = "docker.io",
        allow: Iterable[str] = (),
        fresh: float = SERVE_FRESH,
        names: Iterable[str] = (),
    ) -> AbstractContextManager[Server]:
        """Serve as a pull-through cache while a `with` block runs: fetch what is missing.

        Args:
            host: an address or a name of this machine.
            port: 0 for any free one; see the server's `address`.
            upstream: default registry, for clients that name none; None for no default.
            allow: further registries that may be contacted.
            fresh: seconds for which a tag is not looked up again.
            names: further names that clients use for this machine, besides `host`, `localhost` and
                addresses.

        Raises:
            Malformed: an argument is invalid, or the address cannot be listened on.
            StoreFault: the store cannot be written.
        """
        from resolver.verbs.serve.serve import serve_mirror  # noqa: PLC0415

        return serve_mirror(
            self._context, host, port, upstream=upstream, allow=allow, fresh=fresh, names=names
        )

    def serve_writable(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        htpasswd: str | None = None,
        keep_untagged: float = KEEP_UNTAGGED,
        allow_sparse: bool = False,
        names: Iterable[str] = (),
    ) -> AbstractContextManager[Server]:
        """Serve the store and take pushes into it, while a `with` block runs.

        A push to `PATH:TAG` is kept as `localhost/PATH:TAG`. Names of other registries are served
        and never changed.

        Args:
            host: an address or a name of this machine.
            port: 0 for any free one; see the server's `address`.
            htpasswd: file of users and bcrypt hashes, required unless `host` is this machine only.
            keep_untagged: seconds after which `gc` may remove a manifest without a tag.
            allow_sparse: accept an index whose entries were not all pushed.
            names: further names that clients use for this machine, besides `host`, `localhost` and
                addresses.

        Raises:
            Usage: the address cannot be listened on, or not without passwords.
            InvalidConfiguration: the file of users cannot be used.
            StoreFault: the store cannot be written.

        """
        from resolver.verbs.serve.serve import serve_writable  # noqa: PLC0415
        from resolver.verbs.serve.write import WriteOptions  # noqa: PLC0415

        options = WriteOptions(htpasswd, keep_untagged, allow_sparse)
        return serve_writable(self._context.store, host, port, options=options, names=names)

    def pin(
        self,
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        check: bool = False,
        update: bool = False,
        unpin: bool = False,
        platform: str | Platform | None = None,
        require: PlatformsLike = (),
    ) -> Pinned:
        """Find the digests to pin references in files to; `write_pins` writes them.

        A reference without a digest gets that of the index that its tag points at. A pinned one
        keeps its digest.

        Args:
            files: Dockerfiles, compose files, Kubernetes manifests, …; one or many.
            check: make no edits; with `update`, outdated digests are findings too.
            update: look up the tags of pinned references too, and use their new digests.
            unpin: remove digests where a tag remains, without a request.
            platform: pin the image of this platform instead of the index.
            require: platforms that each image must offer; a missing one is a finding.

        Returns:
            Files in the order of the arguments, each with its edits. What cannot be read or looked
            up is a failure in its place.

        Raises:
            Malformed: a platform is invalid, or options exclude each other.
        """
        from resolver.verbs.pin import pin  # noqa: PLC0415

        return pin(
            self._context,
            files,
            check=check,
            update=update,
            unpin=unpin,
            platform=platform,
            require=require,
        )

    def write_pins(self, pinned: Pinned) -> tuple[str, ...]:
        """Write the edits of `pin`, each file atomically; return the paths written.

        Raises:
            OutputFault: a file is read-only, or has changed since it was read. The files before it
                are written.
        """
        from resolver.verbs.pin import write_pins  # noqa: PLC0415

        return write_pins(pinned)

    def plan(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        references: Named | Iterable[Named],
        platforms: PlatformsLike = None,
        *,
        exact: bool = False,
        places: Iterable[str] = (),
        foreign: bool = False,
        attestations: bool = True,
        referrers: bool = False,
        to: str = "",
        namespace: str | None = None,
        chunks: ChunkMode = "auto",
        chunk_gap: int | None = None,
    ) -> Plan:
        """List the content of images, what of it is held, and what must be fetched.

        Indexes and manifests are read, and kept in the store; layers are not.

        Args:
            references: of registries, or answers of `resolve`; one or many.
            platforms: as for `resolve`, one or many; `all` means every entry of the index,
                attestations and artifacts included. Answers of `resolve` keep the platform they
                were resolved for, unless it is `all`.
            exact: reject fallbacks.
            places: other places on this machine to read content from, in order of preference: an
                OCI layout, an archive, another store, containerd's content folder.
            foreign: fetch foreign layers too, from their publishers.
            attestations: include those that the index lists for the images.
            referrers: include what refers to the images from outside the index: OCI referrers, and
                cosign's tags.
            to: `docker`, `podman` or `containerd`, to list what that engine lacks as well, in
                `Plan.engine`.
            namespace: of containerd; by default that of `ctr`.
            chunks: whether layers in chunks (zstd:chunked, eStargz) are rebuilt from held layers:
                `auto` where that is faster, `always` where it is fewer bytes, or `never`.
            chunk_gap: bytes; held runs that are shorter are fetched along, to save requests. By
                default the link decides.

        Raises:
            Malformed: an argument is invalid; no request was sent.
            Usage: `to` is not an engine.
            Unavailable: the engine does not answer.
            ResolverError: as `resolve` raises; of several references, the error of the first that
                fails, and there is no plan.
        """
        from resolver.verbs.plan import plan  # noqa: PLC0415

        return plan(
            self._context,
            references,
            platforms,
            exact=exact,
            places=places,
            foreign=foreign,
            attestations=attestations,
            referrers=referrers,
            to=to,
            namespace=namespace,
            chunks=chunks,
            chunk_gap=chunk_gap,
        )

    def unpacked(self, plan: Plan) -> tuple[Descriptor, ...]:
        """List the layers of a plan that a Docker engine on this machine has unpacked.

        For information: an engine cannot return a layer as the registry has it, so none counts as
        held. No request is sent if no engine runs.

        Raises:
            ResolverError: an image's config, which lists the unpacked layers, cannot be read.
        """
        from resolver.verbs.pull import unpacked  # noqa: PLC0415

        return unpacked(self._context, plan)

    def pull(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        what: Plan | Named | Iterable[Named],
        platforms: PlatformsLike = None,
        *,
        exact: bool = False,
        places: Iterable[str] = (),
        foreign: bool = False,
        max_download: int | None = None,
        attestations: bool = True,
        referrers: bool = False,
        to: str = "",
        namespace: str | None = None,
        load: bool = False,
        chunks: ChunkMode = "auto",
        chunk_gap: int | None = None,
    ) -> Pulled:
        """Fetch what is missing of images into the store, verified; record the names last.

        After an interruption, the next pull fetches the rest only. The session's observer receives
        the progress, see `resolver.core.results.pull_events`.

        Args:
            what: a plan, which is carried out as it is, or what `plan` takes.
            platforms: as for `plan`; ignored if `what` is a plan.
            exact: as for `plan`; ignored likewise.
            places: as for `plan`; ignored likewise.
            foreign: fetch foreign layers too, from their publishers.
            max_download: limit of bytes to fetch; None for none.
            attestations: as for `plan`.
            referrers: as for `plan`.
            to: `docker`, `podman` or `containerd`, to hand the images over as `export` does; see
                `Pulled.exported`.
            namespace: as for `plan`.
            load: as for `export`.
            chunks: as for `plan`; ignored if `what` is a plan.
            chunk_gap: as for `plan`; ignored likewise.

        Raises:
            ToolMissing: `to` is not installed; nothing was fetched.
            ToolFailed: the engine did not take the images, which are in the store.
            Negative: the limit would be exceeded; nothing was fetched.
            StoreFault: the store cannot be written.
            ResolverError: the error of the only reference, or of the first if all failed.
        """
        from resolver.verbs.pull import pull  # noqa: PLC0415

        return pull(
            self._context,
            what,
            platforms,
            exact=exact,
            places=places,
            foreign=foreign,
            max_download=max_download,
            attestations=attestations,
            referrers=referrers,
            to=to,
            namespace=namespace,
            load=load,
            chunks=chunks,
            chunk_gap=chunk_gap,
        )

    def plan_copy(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        source: str,
        destinations: str | Sequence[str],
        platforms: Sequence[PlatformLike] = (),
        *,
        exact: bool = False,
        sparse: bool = False,
        referrers: bool = True,
        refresh_referrers: bool = False,
        if_absent: bool = False,
        expect: str = "",
    ) -> CopyPlan:
        """List what a copy would send to each destination; nothing is written.

        Args:
            source: a reference, `oci:DIR`, an archive or `store:REF`.
            destinations: references, or `oci:DIR:TAG`.
            platforms: only these, with their attestations; empty for everything.
            exact: reject fallbacks to another platform.
            sparse: keep the original index when platforms are left out.
            referrers: include what refers to the image from outside its index.
            refresh_referrers: look for new referrers of an unchanged tag.
            if_absent: leave a tag that exists.
            expect: the digest that the tag must name; empty for no condition.

        Raises:
            Negative: a tag names something else than expected.
            ResolverError: the source or a destination cannot be read.

        """
        from resolver.verbs.copy import plan_copy  # noqa: PLC0415
        from resolver.verbs.copy_source import CopyOptions  # noqa: PLC0415

        options = CopyOptions(
            tuple(platforms), exact, sparse, referrers, refresh_referrers, if_absent, expect
        )
        places = [destinations] if isinstance(destinations, str) else destinations
        return plan_copy(self._context, source, places, options)

    def copy(self, plan: CopyPlan, *, keep: bool = False, max_upload: int | None = None) -> Copied:
        """Carry out a copy: blobs, then documents, then the tags.

        Args:
            plan: from `plan_copy`.
            keep: also pull the image into the store.
            max_upload: most bytes to send.

        Raises:
            Negative: more would be sent, or a tag names something else than expected.
            ResolverError: no destination is complete; see `Copied.failures` for one of several.

        """
        from resolver.verbs.copy import copy  # noqa: PLC0415

        return copy(self._context, plan, keep=keep, max_upload=max_upload)

    def sync(
        self,
        file: str | Path,
        *,
        dry_run: bool = False,
        max_upload: int | None = None,
        executor: Executor | None = None,
    ) -> Synced:
        """Copy what a file lists; an image that fails does not end the others.

        Args:
            file: in YAML or JSON; `-` is standard input.
            dry_run: send nothing.
            max_upload: most bytes to send in total.
            executor: as for `resolve_each`. Copies from or to places on this machine are made here.

        Raises:
            BadFile: the file cannot be used; no request was sent.
            Negative: more would be sent than allowed.

        """
        from resolver.verbs.sync import sync  # noqa: PLC0415

        return sync(self._context, file, dry_run=dry_run, max_upload=max_upload, executor=executor)

    def repositories(self, place: str) -> Repositories:
        """List the repositories of a registry.

        Args:
            place: `HOST`, or `HOST/PREFIX` for those whose names begin with the prefix.

        Raises:
            NotFound: it does not list them.
            Denied, Unavailable: as for every request.

        """
        from resolver.verbs.account import repositories  # noqa: PLC0415

        return repositories(self._context, place)

    def create_index(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        name: str,
        sources: Sequence[str],
        *,
        annotations: Mapping[str, str] | None = None,
        platforms: Mapping[str, str] | None = None,
        expect: str = "",
        force: bool = False,
        referrers: bool = True,
        dry_run: bool = False,
    ) -> IndexWritten:
        """Make an index of images and of the entries of other indexes, in the order given.

        Args:
            name: where it goes: a tag in a registry, or `oci:DIR:TAG`.
            sources: references; bare digests in the repository of `name`; tags may be patterns.
            annotations: of the index.
            platforms: the platform to state, by the digest of an image.
            expect: the digest that the tag must name now; empty for no condition.
            force: allow platforms that configs contradict.
            referrers: copy what refers to images from elsewhere.
            dry_run: write nothing.

        Raises:
            Negative: a config contradicts a platform, or the tag is not what was expected.
            ResolverError: a source cannot be read, or the index not be written.

        """
        from resolver.verbs.index import create_index, index_options  # noqa: PLC0415

        options = index_options(
            self._context, annotations, platforms, expect, force, referrers, dry_run
        )
        return create_index(self._context, name, sources, options)

    def edit_index(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        reference: str,
        *,
        add: Sequence[str] = (),
        drop: Sequence[str] = (),
        to: str = "",
        annotations: Mapping[str, str] | None = None,
        platforms: Mapping[str, str] | None = None,
        expect: str = "",
        force: bool = False,
        referrers: bool = True,
        dry_run: bool = False,
    ) -> IndexWritten:
        """Add images to an index, drop platforms, or change what it states.

        Args:
            reference: the index; its tag moves unless `to` names another place.
            add: as `sources` of `create_index`; appended.
            drop: platforms, which leave with their attestations.
            to: where the new index goes.
            annotations: to set; an empty value removes one.
            platforms: the platform to state, by the digest of an image.
            expect: the digest that the tag must name now; by default what was read.
            force: allow platforms that configs contradict.
            referrers: copy what refers to images from elsewhere.
            dry_run: write nothing.

        Raises:
            Negative: as `create_index`; also if the tag has moved meanwhile.
            PlatformNotOffered: it has no platform that is to be dropped.
            ResolverError: it cannot be read, or the new one not be written.

        """
        from resolver.verbs.index import edit_index, index_options  # noqa: PLC0415

        options = index_options(
            self._context, annotations, platforms, expect, force, referrers, dry_run
        )
        return edit_index(self._context, reference, options, add=add, drop=drop, to=to)

    def images(self) -> tuple[StoredImage, ...]:
        """List pulled images by reference, then dangling ones.

        Raises:
            StoreFault: the store cannot be read.
        """
        from resolver.verbs.store import images  # noqa: PLC0415

        return images(self._context)

    def usage(self) -> Used:
        """Report the disk usage of each image, and what images share.

        Raises:
            StoreFault: the store cannot be read.
        """
        from resolver.verbs.store import usage  # noqa: PLC0415

        return usage(self._context)

    def remove(
        self, image: str | Reference, platform: str | Platform | None = None, *, force: bool = False
    ) -> Removed:
        """Remove a name, then delete what no other name needs.

        Args:
            image: a reference, or an image id: a digest, or the start of one.
            platform: only the image for this platform.
            force: remove an id with several names, and images in use.

        Raises:
            ImageNotHeld: the store has no such image.
            Malformed: several ids start so.
            Negative: the image is in use, or the id has several names.
            StoreFault: the image cannot be removed.
        """
        from resolver.verbs.store import remove  # noqa: PLC0415

        return remove(self._context, image, platform, force=force)

    def collect(self, rules: Retention | None = None, *, dry_run: bool = False) -> Collected:
        """Delete what neither names nor running processes need.

        Args:
            rules: what else to keep; see `resolver.core.results.store.Retention`.
            dry_run: report what would be deleted, and delete nothing.

        Raises:
            StoreFault: the store cannot be read completely, and nothing was deleted.

        An unreadable lease of a running process is not an error: it is in `unread` of the
        result, and only what dead processes left behind is deleted.
        """
        from resolver.verbs.store import collect  # noqa: PLC0415

        return collect(self._context, rules, dry_run=dry_run)

    def collect_tier(self, age: float, *, dry_run: bool = False) -> Collected:
        """Delete objects of the tier of this session (`Flags.tier`) by age.

        Args:
            age: seconds since an object was written, for which it is kept.
            dry_run: report what would be deleted, and delete nothing.

        Raises:
            Usage: the session has no tier, or is offline.
            Unavailable: the tier cannot be listed, or an object cannot be deleted.
        """
        from resolver.verbs.store import collect_tier  # noqa: PLC0415

        return collect_tier(self._context, age, dry_run=dry_run)

    def verify(self, *, full: bool = False, repair: bool = False) -> Verified:
        """Check that every name has all it needs, and that every file matches its digest.

        Args:
            full: hash every byte, instead of documents and sizes only.
            repair: fetch damaged and missing content again.

        Raises:
            StoreFault: the store cannot be read.
        """
        from resolver.verbs.store import verify  # noqa: PLC0415

        return verify(self._context, full=full, repair=repair)

    def export(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        references: NamesLike,
        to: str,
        platforms: PlatformsLike = (),
        *,
        exact: bool = False,
        namespace: str | None = None,
        attestations: bool = True,
        link: bool = False,
        load: bool = False,
        sink: Callable[[bytes], object] | None = None,
    ) -> Exported:
        """Export images of the store, verifying every byte.

        An engine on this machine fetches the layers that it lacks: the images are served to it on
        loopback, by digest, until it has them. Docker and podman get one platform of each.

        Args:
            references: pulled images, one or many.
            to: a folder (an OCI layout), `FILE.tar`, `docker`, `podman` or `containerd`; `-` sends
                the bytes of the tar, in order, to `sink`.
            platforms: those to export of each; by default all that are held. `all` means every
                entry of the index, all of which must be held.
            exact: reject fallbacks.
            namespace: of containerd; by default that of `ctr`.
            attestations: include those that the index lists for the images.
            link: share files with an OCI layout as hard links; changing one changes both.
            load: send an engine the whole archive instead of what it lacks.
            sink: receives each piece of the tar of `-`; an exception from it ends the export.

        Raises:
            Usage: `to` is none of these, `link` is set without a folder, `load` without an engine,
                or `-` has no `sink`.
            NotHeld: an image was not pulled.
            PlatformNotOffered: an image does not exist for a platform.
            ExportFault, ToolMissing, ToolFailed: the destination cannot be written, or failed.
            StoreFault, Untrusted: the store cannot be read, or is damaged.
        """
        from resolver.verbs.store import export  # noqa: PLC0415

        return export(
            self._context,
            references,
            to,
            platforms,
            exact=exact,
            namespace=namespace,
            attestations=attestations,
            link=link,
            load=load,
            sink=sink,
        )

    def serve(
        self,
        place: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        names: Iterable[str] = (),
    ) -> AbstractContextManager[Server]:
        """Serve the store, or an OCI layout, as a read-only registry while a `with` block runs.

        Args:
            place: `oci:DIR`; None for the store.
            host: an address or a name of this machine.
            port: 0 for any free one; see the server's `address`.
            names: further names that clients use for this machine, besides `host`, `localhost` and
                addresses.

        Raises:
            Usage: the address cannot be listened on, or `place` is not a layout.
            StoreFault, NotFound, Untrusted, Unavailable: the content cannot be read.
        """
        from resolver.verbs.store import serve  # noqa: PLC0415

        return serve(self._context, place, host, port, names=names)
