"""Trial: a bundle's server is started, asked for recorded answers and timed, before its version counts as deployed."""

import shutil
from pathlib import Path

from tasks.bundles import BUNDLES
from tasks.bundles.trial import TrialConfig, TrialResult
from tasks.contract.artifact import BundleArtifact, EvidenceArtifact
from tasks.contract.errors import TooSlow
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.versions.manifest import read_manifest

FILE = "trial.json"


def trial(folder: Path, config: TrialConfig) -> TrialResult:
    """Compare a bundle with its manifest, and its server's answers with those of the version when it was registered.

    Args:
        folder: a copy of the bundle: what runs in it may leave files there.
        config: how often it is asked, and how fast it has to be.

    Raises:
        BundleDamaged: a file is not the one that was put there.
        BundleMismatch: the configuration does not fit the model, or the model not the runtime.
        PortTaken, ServerFailed: the server does not come up.
        SmokeTestFailed: it answers otherwise.
        TooSlow: it takes longer than `max_latency_ms`.

    """
    about = read_manifest(folder)
    result: TrialResult = BUNDLES[about["server"]].trial(folder, about, config=config)
    first = next(iter(result.latency_p50_ms.items()), None)
    if config.max_latency_ms and first and first[1] > config.max_latency_ms:
        way, took = first
        raise TooSlow(
            f"{result.server} takes {took:.3f} ms for one example by {way}, and {config.max_latency_ms:g} ms were "
            f"promised (trial.max_latency_ms); in process it was {about['measured_p50_ms']:.3f} ms. The rest is the "
            "way there and back: give it a machine with less beside it, or raise the limit; if the share in process "
            "is too large itself, compress harder (prune, student.width, quantize)"
        )
    return result


@stage("trial", reuse=False)
def try_bundle(run: StageRun, bundle: BundleArtifact, config: TrialConfig) -> EvidenceArtifact:
    """Try a bundle on this machine, now; keeps `trial.json`."""
    copy = run.work / "copy"
    shutil.copytree(tracking.fetch(bundle), copy)
    result = trial(copy, config)
    times = {f"latency_p50_ms_{way}": took for way, took in result.latency_p50_ms.items()}
    tracking.log_metrics(run.run_id, {"largest_difference": result.largest_difference, **times})
    folder = run.work / "trial"
    folder.mkdir()
    (folder / FILE).write_text(result.model_dump_json(indent=1) + "\n")
    return run.keep_evidence(folder)


def open_trial(folder: Path) -> TrialResult:
    """Read `trial.json` from a folder whose digest was checked."""
    return TrialResult.model_validate_json((folder / FILE).read_text())
