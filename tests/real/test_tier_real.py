"""A tier in s3rver, which ignores conditions of writes, and in the same requests as from S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.sources.tier import Tier
from tests.kit.buckets import BUCKET, s3rver, s3rver_command, settings
from tests.kit.pulls import noise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    command = s3rver_command()
    if command is None:
        pytest.skip("not installed: s3rver (scripts/test installs it where npm is present)")
    with s3rver(command, tmp_path / "s3rver") as host:
        yield host


def test_tier_in_a_bucket_without_conditional_writes_has_right_content(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings(host).items():
        monkeypatch.setenv(name, value)
    events: list[Event] = []
    body = noise(9_000_000)
    blob = Descriptor("application/octet-stream", Digest.of(body), len(body))
    tiers = [
        Tier(f"s3://{BUCKET}/x", {"AWS_ALLOW_HTTP": "true"}, events.append, writes=True)
        for _ in range(8)
    ]
    assert not tiers[0].has(blob)
    with ThreadPoolExecutor(8) as threads:
        put = list(threads.map(lambda tier: tier.put(blob, nullcontext(iter((body,)))), tiers))

    assert put == [True] * 8
    assert tiers[0].has(blob)
    with tiers[0].open_range(blob, 5_000_000, len(body)) as answer:
        assert b"".join(answer.chunks) == body[5_000_000:]
    with tiers[0].open_range(blob, 0, len(body)) as answer:
        assert b"".join(answer.chunks) == body
    assert events == []
