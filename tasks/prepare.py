"""The stage before the first model: read the data, check it, split it, and keep what it is like."""

from tasks.contract.artifact import digest_folder
from tasks.contract.progress import listener
from tasks.data import DataArtifact, DataConfig, describe, open_data
from tasks.drift.of_heads import targets_like
from tasks.drift.profile import input_distributions, write_profile
from tasks.store import tracking
from tasks.store.stage import StageRun, stage


def prepare_data(data: DataConfig) -> DataArtifact:
    """Read, check and split the data; its profile is what later data are compared with.

    Raises:
        DataError: the data cannot be trained on as they are.

    """
    # what is reused may have been made of the same content in another place
    return prepare_examples(data).model_copy(update={"config": data})


@stage("prepare")
def prepare_examples(run: StageRun, data: DataConfig) -> DataArtifact:
    """Keep what the data are like: their profile, and the figures of each input and target."""
    dataset = open_data(data)
    folder = run.work / "profile"
    folder.mkdir()
    profile = describe(dataset)
    for note in dataset.notes:
        listener().note("prepare", note)
    kept = {"inputs": input_distributions(dataset), "targets": targets_like(dataset.heads, dataset.targets["train"])}
    shown = {kind: {name: each.model_dump() for name, each in figures.items()} for kind, figures in kept.items()}
    write_profile({**profile, **shown}, folder)
    tracking.log_dataset(run.run_id, data.reader, dataset.digest, data.source or data.reader, profile, "prepare")
    for split, count in dataset.counts.items():
        tracking.log_metrics(run.run_id, {f"examples/{split}": count})
    tracking.log_metrics(run.run_id, {"duplicates": dataset.duplicates})
    return DataArtifact(
        stage=run.stage,
        sha256=digest_folder(folder),
        uri=tracking.keep_folder(run.run_id, folder, "profile"),
        run=run.run_id,
        digest=dataset.digest,
        input_shapes=dataset.input_shapes,
        heads=dataset.heads,
        counts=dataset.counts,
        duplicates=dataset.duplicates,
        config=data,
    )
