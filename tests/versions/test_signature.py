"""Signed versions: by a key of one's own, checkable by OpenSSF's own program, and asked for by whoever opens one."""

import base64
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import ROOT
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from keys import write_key
from registered import RECIPE, sealed_anew, versions

from tasks.contract.errors import OptionWrong, SlimlineError, VersionDamaged, VersionUnsigned
from tasks.versions.signature import PASSWORD, PRIVATE_KEY, PUBLIC_KEY

OTHER = {"seed": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """Version 1 was signed when it was made, with a key that has a password; version 2 was not."""
    folder = tmp_path_factory.mktemp("state")
    write_key(folder, "ours", b"hush")
    write_key(folder, "theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PRIVATE_KEY, str(folder / "ours.pem"))
        patch.setenv(PASSWORD, "hush")
        with versions(folder, empty_store, {}):
            for name in (PRIVATE_KEY, PASSWORD):
                patch.delenv(name)
            make(OTHER)
            yield folder


def make(changed: dict):
    from flows.compression import compress
    from flows.recipe_file import check_settings

    return compress(check_settings({**RECIPE, **changed}))


def opened(number: int) -> Path:
    from tasks.store import tracking

    return tracking.download(f"models:/tiny/{number}")


@pytest.fixture
def ours(home, monkeypatch) -> None:
    monkeypatch.setenv(PUBLIC_KEY, str(home / "ours.pub"))


@contextmanager
def changed(file: Path, content: bytes):
    kept = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(kept)


def by_openssf(folder: Path, key: Path) -> subprocess.CompletedProcess:
    """What the specification's own program says of a folder."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / "model.sig"), "--public_key", str(key)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)


def test_openssf_s_own_program_checks_a_version_as_it_is_downloaded(home, tmp_path):
    import mlflow

    from tasks.store import tracking

    tracking.client()
    copy = Path(mlflow.artifacts.download_artifacts("models:/tiny/1", dst_path=str(tmp_path / "copy")))
    assert (copy / "registered_model_meta").is_file(), "MLflow's own note, which nobody signed"
    good = by_openssf(copy, home / "ours.pub")
    assert good.returncode == 0, good.stdout + good.stderr
    assert by_openssf(copy, home / "theirs.pub").returncode != 0
    (copy / "labels.json").write_text('["no", "yes"]')
    assert by_openssf(copy, home / "ours.pub").returncode != 0


def test_the_page_of_a_signed_version_says_whose_it_is(home, ours):
    import hashlib

    from flows.verify import verify

    result = verify("models:/tiny/1")
    key = hashlib.sha256((home / "ours.pub").read_bytes()).hexdigest()
    assert result.holds
    assert f"Signed by the public key with sha256 {key}" in result.page


def test_without_a_public_key_a_signature_is_said_to_be_unchecked(home):
    from flows.verify import verify

    result = verify("models:/tiny/1")
    assert result.holds
    assert "model.sig was not checked: SLIMLINE_PUBLIC_KEY names" in result.page
    assert "model.sig" not in verify("models:/tiny/2").page


def promoted():
    from flows.promote import promote
    from tasks.store import registry

    registry.set_alias("tiny", registry.CANDIDATE, 2)
    promote("tiny")


def deployed(to):
    from flows.deploy import deploy

    deploy("models:/tiny/2", "docker", output=str(to))


def monitored():
    from flows.monitor import monitor
    from tasks.data.new import NewDataConfig
    from tasks.store import registry

    registry.set_alias("tiny", registry.CHAMPION, 2)
    monitor("tiny", NewDataConfig(reader="digits", labels=False))


def recipe_read():
    from flows.recipe_file import registered_recipe

    registered_recipe("models:/tiny/2")


@pytest.mark.parametrize("opens", [promoted, deployed, monitored, recipe_read], ids=lambda each: each.__name__)
def test_who_asks_for_a_key_opens_nothing_else(home, ours, tmp_path, opens):
    from tasks.store import registry

    before = registry.aliases_of("tiny")
    try:
        with pytest.raises(
            VersionUnsigned, match=r"models:/tiny/2 is not signed .*: it has no signature.*slimline sign"
        ):
            opens(tmp_path / "bundle") if opens is deployed else opens()
        assert not (tmp_path / "bundle").exists()
    finally:
        for alias in registry.aliases_of("tiny"):
            registry.set_alias("tiny", alias, before.get(alias))


def test_a_server_opens_nothing_else(home, ours):
    program = "from tasks.serving.watch import find; find('models:/tiny/2', 1)"  # kserve wants a process of its own
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "VersionUnsigned: models:/tiny/2 is not signed" in done.stderr


def test_verify_says_so_on_its_page_and_ends_with_1(home, ours):
    command = [sys.executable, "-m", "flows.cli", "verify", "models:/tiny/2", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    page = json.loads(done.stdout)["page"]
    assert page.startswith("# models:/tiny/2: **not signed by the key that is asked for**")
    assert "slimline sign models:/tiny/2" in page


def test_a_version_that_was_changed_with_its_manifest_and_the_registry_is_found_out(home, ours):
    """Who can write to the store and to the registry can seal anything anew, but for the signature."""
    from tasks.versions.registered import open_registered

    assert open_registered("models:/tiny/1").signed_by
    with changed(opened(1) / "labels.json", b'["swapped"]'):
        with pytest.raises(VersionDamaged):
            open_registered("models:/tiny/1")
        with sealed_anew(1), pytest.raises(VersionUnsigned, match="its signature is that of other files"):
            open_registered("models:/tiny/1")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a":', b"\x00\xff" * 100, b"[]"])
def test_what_is_no_signature_is_refused_with_the_version_s_name(home, ours, content):
    from tasks.versions.registered import open_registered

    with changed(opened(1) / "model.sig", content), pytest.raises(VersionUnsigned, match="models:/tiny/1"):
        open_registered("models:/tiny/1")


def test_another_s_signature_with_our_name_on_it_does_not_count(home, ours, monkeypatch, tmp_path):
    """A signature says whose it is by a hint, which anybody can write, and its statement is right: the bytes decide."""
    from tasks.versions.registered import open_registered
    from tasks.versions.signature import sign

    monkeypatch.setenv(PRIVATE_KEY, str(home / "theirs.pem"))
    sign(opened(1), tmp_path / "model.sig")
    forged, true = (json.loads((place / "model.sig").read_text()) for place in (tmp_path, opened(1)))
    stated = [json.loads(base64.b64decode(each["dsseEnvelope"]["payload"]))["predicate"] for each in (forged, true)]
    assert stated[0] == stated[1]
    forged["verificationMaterial"] = true["verificationMaterial"]
    content = json.dumps(forged).encode()
    with changed(opened(1) / "model.sig", content), pytest.raises(VersionUnsigned, match="is another key's"):
        open_registered("models:/tiny/1")


def test_another_s_signature_is_told_from_none(home, monkeypatch):
    from tasks.versions.registered import open_registered

    monkeypatch.setenv(PUBLIC_KEY, str(home / "theirs.pub"))
    with pytest.raises(VersionUnsigned, match="its signature is another key's"):
        open_registered("models:/tiny/1")


def test_a_version_is_signed_later_by_a_command_and_made_again_it_stays_so(home, ours, monkeypatch, capsys):
    from flows.cli import main
    from tasks.store import registry
    from tasks.versions.registered import open_registered

    monkeypatch.setenv(PRIVATE_KEY, str(home / "ours.pem"))
    monkeypatch.setenv(PASSWORD, "hush")
    try:
        assert main(["sign", "models:/tiny/2"]) == 0
        assert "models:/tiny/2: model.sig is beside its files" in capsys.readouterr().out
        assert open_registered("models:/tiny/2").signed_by
        again = make(OTHER)
        assert again.version == 2, "a signature is no other content"
        assert registry.aliases_of("tiny")["candidate"] == 2
        assert "register" in make(OTHER).reused
    finally:
        (opened(2) / "model.sig").unlink()


def test_a_version_that_is_found_again_is_signed_if_its_maker_has_a_key(home, ours, monkeypatch):
    from tasks.versions.registered import open_registered

    monkeypatch.setenv(PRIVATE_KEY, str(home / "ours.pem"))
    monkeypatch.setenv(PASSWORD, "hush")
    try:
        made = make(OTHER)
        assert made.version == 2
        assert open_registered("models:/tiny/2").signed_by
    finally:
        (opened(2) / "model.sig").unlink(missing_ok=True)


def test_damaged_files_are_not_signed(home, monkeypatch):
    from tasks.versions.registered import sign_version

    monkeypatch.setenv(PRIVATE_KEY, str(home / "theirs.pem"))
    with changed(opened(2) / "labels.json", b"[]"), pytest.raises(VersionDamaged):
        sign_version("models:/tiny/2")
    assert not (opened(2) / "model.sig").exists()


@pytest.mark.parametrize(
    ("file", "password", "says"),
    [
        ("nowhere.pem", "", "No such file"),
        ("ours.pem", "", "Password was not given"),
        ("ours.pem", "loud", "ncorrect password"),
        ("ours.pub", "", "PEM"),
        ("rsa.pem", "", "elliptic-curve key"),
        ("wide.pem", "", "secp256k1"),
        ("text.pem", "", "PEM"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_before_anything_is_done(home, monkeypatch, file, password, says):
    from flows.check import check
    from flows.recipe_file import check_settings

    write_key(home, "rsa", key=rsa.generate_private_key(65537, 2048))
    write_key(home, "wide", key=ec.generate_private_key(ec.SECP256K1()))
    (home / "text.pem").write_text("no key")
    monkeypatch.setenv(PRIVATE_KEY, str(home / file))
    monkeypatch.setenv(PASSWORD, password)
    with pytest.raises(OptionWrong, match=says) as refused:
        check(check_settings({**RECIPE, "data": {"reader": "npz", "source": "nowhere.npz"}}))
    assert str(refused.value).startswith(f"{PRIVATE_KEY}: ")
    assert "openssl" in str(refused.value)
    assert not password or password not in str(refused.value)


@pytest.mark.parametrize("file", ["nowhere.pub", "ours.pem", "text.pub"])
def test_a_public_key_that_is_none_is_refused_by_its_variable(home, monkeypatch, file):
    from tasks.versions.registered import open_registered

    (home / "text.pub").write_text("no key")
    monkeypatch.setenv(PUBLIC_KEY, str(home / file))
    with pytest.raises(OptionWrong, match=f"{PUBLIC_KEY}: .*openssl ec"):
        open_registered("models:/tiny/1")


def test_without_a_key_the_command_says_which_variable_names_one(home, capfd):
    from flows.cli import main

    assert main(["sign", "models:/tiny/2"]) == 2
    assert "SLIMLINE_SIGNING_KEY: 'not set': has to be the file of an elliptic-curve key" in capfd.readouterr().err


def test_what_is_not_installed_is_named_with_the_way_to_have_it(home, monkeypatch):
    from tasks.versions import signature

    monkeypatch.setenv(PRIVATE_KEY, str(home / "theirs.pem"))
    for name in ("model_signing", "model_signing.signing"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SlimlineError, match=r"pip install 'slimline\[signing\]'"):
        signature.signer()
