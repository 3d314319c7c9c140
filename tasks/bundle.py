"""Bundle: a registered version laid out for a server, as the server takes it, with a manifest and how to start it."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

from tasks.bundles import BUNDLES
from tasks.bundles.contents import BundleConfig, Contents, ServerName, render
from tasks.bundles.question import write_question
from tasks.bundles.rows import write_encoding
from tasks.contract.artifact import BundleArtifact, digest_folder
from tasks.contract.errors import OutputTaken
from tasks.contract.named import fields
from tasks.contract.progress import listener
from tasks.formats import FORMATS
from tasks.formats.audit import named
from tasks.formats.onnx.saturation import note_here
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.versions.manifest import write_manifest
from tasks.versions.registered import open_registered

ARCHIVE = ".tar.gz"


def bundle(folder: Path, server: ServerName, contents: Contents) -> None:
    """Fill an empty folder with what a server takes, `README.md` and `manifest.json`.

    The same version, settings and installation give the same bytes.

    Raises:
        TargetMissing: the version has no file that this server could run.

    """
    made_for = BUNDLES[server]
    measured = contents.file(server, made_for.TARGET)
    layers = FORMATS[measured.target].saturating(contents.files(server, measured.target))
    if sentence := note_here(f"The {measured.target} file", layers):
        listener().note("bundle", f"{contents.version.uri}: {sentence}")
    made_for.lay_out(folder, contents)
    about = {
        "server": server,
        "name": contents.name,
        "version": contents.number,
        "evidence_sha256": contents.evidence_sha256,
        "target": measured.target,
        "model_sha256": measured.sha256,
        "measured_p50_ms": measured.latency.p50 * 1000,
    }
    examples = contents.sample()["examples"]
    question = write_question(folder, server, measured.target, contents)
    render(
        "README.md",
        folder / "README.md",
        **about,
        start=made_for.START,
        evidence=contents.version.evidence,
        targets=[file.target for file in contents.version.shipped()],
        measured=measured,
        config=contents.config,
        question=question,
        row=write_encoding(folder, contents),
        outputs=contents.outputs(measured.target),
        labels=any(output.labels for output in contents.outputs(measured.target)),
        saturating=layers,
        named=named,
        inputs={name: (each.dtype, each.shape[1:]) for name, each in fields(examples).items()},
    )
    write_manifest(folder, **about)


# Never reused: laying files out takes less time than looking for them, and our own server's source is among them.
@stage("bundle-{to}", reuse=False)
def bundle_version(run: StageRun, name: str, version: int, to: ServerName, config: BundleConfig) -> BundleArtifact:
    """Lay a registered version out for a server, and keep that in the store.

    Raises:
        VersionDamaged: files of the version are not those that were registered.
        TargetMissing: it has no file that this server could run.

    """
    folder = run.work / "bundle"
    folder.mkdir()
    bundle(folder, to, Contents(name, version, open_registered(f"models:/{name}/{version}"), config))
    kept = tracking.keep_folder(run.run_id, folder, folder.name)
    return BundleArtifact(stage=run.stage, sha256=digest_folder(folder), uri=kept, run=run.run_id, server=to)


def check_place(place: Path) -> None:
    """Pass if a bundle can be written there.

    Raises:
        OutputTaken: something is there, or the folder around it is not.

    """
    if place.exists():
        raise OutputTaken("output", str(place), "is there already: name another, or take it away first")
    if not place.absolute().parent.is_dir():
        raise OutputTaken("output", str(place), "the folder that it would be in is not there: make it first")


def hand_out(made: BundleArtifact, place: Path) -> None:
    """Write a bundle where a person wants it, whole or not at all: as a folder, or an archive if it ends in .tar.gz."""
    check_place(place)
    source = tracking.fetch(made)
    beside = place.with_name(f".{place.name}.partial")
    _remove(beside)  # of one that was killed here
    try:
        if place.name.endswith(ARCHIVE):
            beside.write_bytes(_archive(source, place.name.removesuffix(ARCHIVE)))
        else:
            shutil.copytree(source, beside)
        beside.rename(place)
    finally:
        _remove(beside)


def _remove(place: Path) -> None:
    """Take away a folder or a file, if there is one."""
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)


def _archive(folder: Path, root: str) -> bytes:
    """A folder's files as .tar.gz: the same files give the same bytes, as it holds neither times nor owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{root}/{file.relative_to(folder).as_posix()}")
            entry.size, entry.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                archive.addfile(entry, content)
    return gzip.compress(packed.getvalue(), mtime=0)
