"""pull: creates an environment from a registry, checked like an archive from a stranger.

Fetched blobs stay in the store, so that an interrupted pull continues, and the next one fetches only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from sysenv_ns.archive import compression, import_
from sysenv_ns.archive.import_ import Imported, Source, Wish
from sysenv_ns.archive.manifest import LAYERS
from sysenv_ns.archive.tarball import Damaged
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import remedies
from sysenv_ns.registry import artifact, dictionary, known, reassembly
from sysenv_ns.registry.artifact import Artifact, LaterForm, NoArtifact
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.registry.dictionary import FormerFiles, Needed
from sysenv_ns.registry.known import LayerBlob
from sysenv_ns.registry.reference import Reference
from sysenv_ns.registry.skopeo import Skopeo
from sysenv_ns.reporter import ProgressBar, Reporter


@dataclass(frozen=True)
class Pulled:
    """The environment, the digest to pull it again, and notices for the user."""

    environment: Environment
    digest: str
    notes: tuple[str, ...]


def pull(
    store: Store, reference: Reference, wish: Wish, skopeo: Skopeo, reporter: Reporter, bar: ProgressBar
) -> Pulled:
    """Fetch and create an environment. Raises SysenvError; then only fetched blobs are left."""
    if wish.name is not None:
        import_.check_free(store, check_name(wish.name), wish)
    chosen = import_.choose_for(store, wish, reporter)  # before anything is fetched; root may be asked for
    cache = BlobCache(store)
    try:
        cache.prepare()
        described, found = _fetch(cache, reference, skopeo)
        result = import_.import_from(store, Source(_pieces(found, cache)), wish, reporter, bar, chosen)
        _note(store, reference, described, found, result)
    except LaterForm as error:
        raise SysenvError(
            f"{reference} has a form that this sysenv-ns does not know: {error}",
            "use the version of sysenv-ns that pushed it, or a later one",
        ) from error
    except NoArtifact as error:
        raise SysenvError(f"{reference} is not an environment: {error}", "push one with: sysenv-ns push") from error
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"pulling {reference} failed: {located(error)}", hint) from error
    return Pulled(result.environment, described.digest, result.notes)


def ensure(store: Store, reference: Reference, name: str, make: Callable[[], Pulled]) -> Pulled | None:
    """Pull an environment by `make`, if there is none of that name (else None). Of those who ask at once one does it.

    The one that is there must have been made from that repository, or if `reference` has a digest, from that.
    Raises SysenvError.
    """
    if _is_there(store, reference, name):
        return None
    cache = BlobCache(store)
    try:
        store.prepare()
        cache.prepare()
        with cache.alone():
            return None if _is_there(store, reference, name) else make()
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"pulling {reference} failed: {located(error)}", hint) from error


def _is_there(store: Store, reference: Reference, name: str) -> bool:
    if not store.exists(name):
        return False
    made_from = known.digests(store.load(name), reference)
    if not made_from or reference.digest not in (None, *made_from):
        raise SysenvError(
            f"the environment {name} was not made from {reference}",
            f"give another name, or remove it first: sysenv-ns remove {name}",
        )
    return True


def _fetch(cache: BlobCache, reference: Reference, skopeo: Skopeo) -> tuple[Descriptor, Artifact]:
    """Fetch everything that a reference names into the cache. Raises OSError, SysenvError, NoArtifact."""
    with cache.layout() as layout:
        skopeo.fetch(reference, layout, cache.path)
        try:
            described, found = artifact.read_layout(layout, cache)
        except Damaged as error:
            raise NoArtifact(str(error)) from error
    if reference.digest not in (None, described.digest):
        raise NoArtifact(f"it has the digest {described.digest}")
    return described, found


def _pieces(found: Artifact, cache: BlobCache) -> Iterator[tuple[bytes, float]]:
    """The archive rebuilt from the blobs. Raises Damaged, OSError."""
    description = cache.read(found.config, artifact.MANIFEST_LIMIT)
    total = sum(tree.blob.size for tree in found.trees)
    done = 0
    needed = dict(_needed(found, cache))

    def trees() -> Iterator[tuple[str, BinaryIO]]:
        nonlocal done
        for tree in found.trees:
            with cache.opened(tree.blob) as stream:
                content = b""
                if tree.below:
                    dictionary.read_head(stream)
                    content = former.dictionary(needed[tree.name])
                yield tree.name, compression.reader(stream, content)
            done += tree.blob.size

    with cache.file() as file:
        former = FormerFiles(needed, file)
        for data in reassembly.archive(description, trees(), former.watched):
            yield data, done / (total + 1)


def _needed(found: Artifact, cache: BlobCache) -> Iterator[tuple[str, Needed]]:
    """The dictionaries of trees, by their names. Raises Damaged, OSError."""
    for tree in found.trees:
        if tree.below:
            with cache.opened(tree.blob) as stream:
                yield tree.name, Needed(dictionary.read_head(stream), tree.below)


def _note(store: Store, reference: Reference, described: Descriptor, found: Artifact, result: Imported) -> None:
    """Record what the new environment was made from, so that a push sends only what is new. Raises OSError."""
    trees = {tree.name: tree for tree in found.trees}
    idents = {f"{LAYERS}/{number}": ident for number, ident in result.layers.items()}
    for name, ident in idents.items():
        below = tuple(idents.get(other, "") for other in trees[name].below)
        if result.exact and all(below):
            known.note_blob(store.layers / ident, LayerBlob(trees[name].blob, below))
    known.note_digest(result.environment, reference, described.digest)
