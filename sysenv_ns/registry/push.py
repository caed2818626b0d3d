"""push: sends an environment to a registry, each frozen layer once; what is there is neither packed nor sent again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sysenv_ns.archive import export, manifest
from sysenv_ns.environment import history, layers, rest, uppers
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import remedies
from sysenv_ns.registry import artifact, blobs, known
from sysenv_ns.registry.artifact import Artifact, LaterForm, NoArtifact
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.registry.reference import Reference
from sysenv_ns.registry.skopeo import BlobMissing, Skopeo
from sysenv_ns.registry.tree_blobs import BlobMaker
from sysenv_ns.reporter import ProgressBar, Reporter


@dataclass(frozen=True)
class Pushed:
    """What was sent, and where; `digest` identifies it permanently. Sizes are bytes."""

    name: str
    reference: str
    digest: str
    size: int
    sent: int  # what the repository had not, as far as was known
    blobs: int  # how many that were
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Push:
    """What is to be pushed where, and by what."""

    store: Store
    name: str
    reference: Reference
    skopeo: Skopeo
    reporter: Reporter
    bar: ProgressBar

    def environment(self) -> Environment:
        """The environment, if the caller may push it. Raises SysenvError."""
        environment = self.store.load(self.name)
        environment.require_root()
        return environment

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """What fails within, fails as this push. Raises SysenvError."""
        try:
            yield
        except OSError as error:
            hint = remedies.storage(error, self.store.path)
            raise SysenvError(f"pushing {self.name} failed: {located(error)}", hint) from error

    def announce(self, new: Iterable[Descriptor]) -> None:
        """Say which blobs will be sent."""
        for blob in new:
            self.reporter.operation(f"sending {blob.digest} ({blob.size} bytes)")


class EnvironmentPush(Push):
    """Of an environment, as an artifact."""

    def run(self, force: bool) -> Pushed:
        """Freeze the changes of the environment and send it. Raises SysenvError; then the tag is unchanged.

        `force`: replace what somebody else has put there.
        """
        environment = self.environment()
        tagged = self.skopeo.manifest(self.reference)
        earlier = known.digests(environment, self.reference)
        if not force:
            check_tag(self.name, self.reference, tagged, earlier, as_image=False)
        last = self.skopeo.manifest(self.reference.at(earlier[-1])) if earlier else None
        cache = BlobCache(self.store)
        with self.failing():
            cache.prepare()
            try:
                sent = self._sent(cache, tagged, _blobs_of(tagged) | _blobs_of(last))
            except BlobMissing:  # the registry has lost what it had
                sent = self._sent(cache, tagged, set())
            cache.remove(sent.new)
            known.note_digest(environment, self.reference, sent.described.digest)
        return self._told(sent)

    def _sent(self, cache: BlobCache, tagged: bytes | None, there: set[Descriptor]) -> _Sent:
        """Make and send it, without the blobs that are `there`."""
        made, devices = _made(self.store, self.name, cache, there, self.bar)
        described = cache.add(made.encode())
        new = {tree.blob for tree in made.trees} - there
        if tagged is None or blobs.of_bytes(tagged) != described:
            self.announce(new)
            with cache.layout() as layout:
                artifact.write_layout(layout, described, self.skopeo.tag)
                self.skopeo.send(layout, cache.path, self.reference)
        return _Sent(made, described, new, devices)

    def _told(self, sent: _Sent) -> Pushed:
        became = "device nodes become empty files in it, as in environments of other drivers"
        notes = (f"{became}: {sent.devices}",) if sent.devices else ()
        size, new = (sum(blob.size for blob in found) for found in ({tree.blob for tree in sent.made.trees}, sent.new))
        return Pushed(self.name, str(self.reference), sent.described.digest, size, new, len(sent.new), notes)


@dataclass(frozen=True)
class _Sent:
    """An artifact, its manifest, the blobs of it that were not there, and how many device nodes became files in it."""

    made: Artifact
    described: Descriptor
    new: set[Descriptor]
    devices: int


def _made(store: Store, name: str, cache: BlobCache, there: set[Descriptor], bar: ProgressBar) -> tuple[Artifact, int]:
    """The artifact, with its blobs in the cache or `there`; and how many device nodes became files in new blobs.

    Raises OSError, SysenvError.
    """
    with rest.at_rest(store, name, "the push") as changed, bar() as progress:
        environment = _frozen(store, changed)
        content = export.content_of(store, environment)
        trees, devices = BlobMaker(environment, content, cache, there).trees(progress)
    return Artifact(cache.add(manifest.encode(content.manifest)), trees), devices


def _blobs_of(manifest: bytes | None) -> set[Descriptor]:
    """The blobs of artifacts in a repository, which it surely has."""
    with contextlib.suppress(NoArtifact):
        return {tree.blob for tree in artifact.decode(manifest).trees} if manifest is not None else set()
    return set()


def check_tag(
    name: str, reference: Reference, tagged: bytes | None, known_digests: Sequence[str], as_image: bool
) -> None:
    """Raise SysenvError if a tag names something that was never this environment: it may be a colleague's work; or
    if it is an image, or for an image if it is none.
    """
    if tagged is None:
        return
    if blobs.of_bytes(tagged).digest not in known_digests:
        raise SysenvError(
            f"{reference} has changed since {name} was last pushed or pulled there",
            "somebody may need it: push to another tag, or replace it with --force",
        )
    if _is_environment(tagged) == as_image:
        what = "an environment, not an image" if as_image else "an image, not an environment"
        raise SysenvError(f"{reference} is {what}", "push to another tag, or replace it with --force")


def _is_environment(manifest: bytes) -> bool:
    try:
        artifact.decode(manifest)
    except LaterForm:
        return True
    except NoArtifact:
        return False
    return True


def _frozen(store: Store, environment: Environment) -> Environment:
    """The environment with all its changes in frozen layers. Raises OSError, SysenvError."""
    with uppers.locked(store):
        ident, chain = history.freeze(store, environment)
        if chain != environment.layers:
            layers.succeed(store, environment, replace(environment, layers=chain), ident)
    return store.load(environment.name)
