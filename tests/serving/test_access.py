"""Who may ask a server: nobody without a key or a certificate, where one is asked for."""

import datetime
import ipaddress
import subprocess
import sys

import httpx
import pytest
import tritonclient.grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from postgres import free_port
from servers import until
from serving_process import serving
from tritonclient.utils import InferenceServerException

from tasks.contract.errors import OptionWrong
from tasks.serving.access import ASK, check_access, keys_of, open_to
from tasks.serving.limits import ServeConfig

KEY, NEXT = "a-key-of-32-characters-or-more-0", "the-key-that-takes-its-place-001"


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{NEXT}\n")
    return file


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority's, a server's and a client's certificate with their keys, as PEM."""
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.UTC)

    def made(name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None) -> tuple:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        by, signing_key = issuer or (subject, key)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .sign(signing_key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return subject, key

    authority = made("authority", None)
    for name in ("server", "client"):
        made(name, authority)
    return folder


def test_whoever_has_no_key_is_sent_away_and_probes_are_answered(folder, key_file, tmp_path):
    with serving(tmp_path, ["tasks.serving", str(folder), "--key-file", str(key_file)]) as server:
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        for path in ("/v2/models/tiny", "/metrics", "/openapi.json"):
            for headers in ({}, {"authorization": f"Bearer {KEY[:-1]}"}, {"authorization": KEY}):
                answer = httpx.get(f"{server.url}{path}", headers=headers)
                assert (answer.status_code, answer.json()["error"]) == (401, ASK)
            for key in (KEY, NEXT):
                assert httpx.get(f"{server.url}{path}", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert httpx.post(f"{server.url}/v2/models/tiny/infer", content=b"0" * 1000).status_code == 401
        client = tritonclient.grpc.InferenceServerClient(server.grpc)
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="with a key of the server's key file") as refused:
            client.get_model_metadata("tiny")
        assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.get_model_metadata("tiny", headers={"authorization": f"Bearer {NEXT}"}).name == "tiny"
        client.close()


def test_with_certificates_both_sides_know_who_the_other_is(folder, certificates, tmp_path):
    http, rpc, log = free_port(), free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "tasks.serving", str(folder), "--http-port", str(http), "--grpc-port", str(rpc)]
    files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--tls-client-ca": "authority.pem"}
    command += [part for name, file in files.items() for part in (name, str(certificates / file))]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: "curl https://" in log.read_text(), 60)
            import ssl

            own = (certificates / "client.pem", certificates / "client.key")
            known = ssl.create_default_context(cafile=certificates / "authority.pem")
            url = f"https://127.0.0.1:{http}/v2/models/tiny"
            with pytest.raises(httpx.TransportError):
                httpx.get(url, verify=known)
            known.load_cert_chain(*own)
            assert httpx.get(url, verify=known).json()["name"] == "tiny"
            for names, answers in (((), False), (own, True)):
                pair = dict(zip(("certificate_chain", "private_key"), map(str, names), strict=False))
                client = tritonclient.grpc.InferenceServerClient(
                    f"127.0.0.1:{rpc}",
                    ssl=True,
                    root_certificates=str(certificates / "authority.pem"),
                    **pair,
                )
                if answers:
                    assert client.get_model_metadata("tiny").name == "tiny"
                else:
                    with pytest.raises(InferenceServerException):
                        client.get_model_metadata("tiny", client_timeout=5)
                client.close()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("host", "files", "sentence"),
    [
        ("127.0.0.1", {}, ""),
        ("::1", {}, ""),
        ("localhost", {}, ""),
        ("0.0.0.0", {}, "whoever reaches 0.0.0.0 can ask this model: --key-file"),
        ("10.0.0.7", {"tls_cert": "c", "tls_key": "k"}, "whoever reaches 10.0.0.7 can ask this model"),
        ("::", {"key_file": "k"}, "can read the key: --tls-cert and --tls-key encrypt it"),
        ("::", {"key_file": "k", "tls_cert": "c", "tls_key": "k"}, ""),
        ("::", {"tls_client_ca": "a", "tls_cert": "c", "tls_key": "k"}, ""),
    ],
)
def test_a_door_that_is_open_beyond_this_machine_is_said_to_be(host, files, sentence):
    said = open_to(ServeConfig(host=host, **files))
    assert sentence in said
    assert bool(said) == bool(sentence)


def test_it_is_said_at_the_start(folder, tmp_path):
    with serving(tmp_path, ["tasks.serving", str(folder), "--host", "0.0.0.0"]) as server:
        until(lambda: "whoever reaches 0.0.0.0 can ask this model" in server.log.read_text(), 10)


@pytest.mark.parametrize("content", ["", "\n \n", "short\n", "two words in a line of a key file\n"])
def test_a_key_file_without_a_key_is_refused(content, tmp_path):
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(OptionWrong, match=r"--key-file: .*openssl rand -hex 32"):
        keys_of(file)


def test_files_that_do_not_fit_are_named(certificates, tmp_path):
    server, key = certificates / "server.pem", certificates / "server.key"
    for files, message in (
        ({"key_file": tmp_path / "none"}, "--key-file: .*cannot be read"),
        ({"tls_cert": server}, "--tls-key: None: TLS takes a certificate and its key"),
        ({"tls_client_ca": server}, "--tls-cert: None: TLS takes"),
        ({"tls_cert": server, "tls_key": tmp_path / "none"}, "--tls-key: .*cannot be read"),
        ({"tls_cert": server, "tls_key": certificates / "client.key"}, "--tls-cert: .*no certificate in PEM with its"),
        ({"tls_cert": key, "tls_key": key}, "--tls-cert: .*no certificate in PEM"),
        ({"tls_cert": server, "tls_key": key, "tls_client_ca": key}, "--tls-client-ca: .*no certificates in PEM"),
    ):
        with pytest.raises(OptionWrong, match=message):
            check_access(ServeConfig(**files))
    check_access(ServeConfig(tls_cert=server, tls_key=key, tls_client_ca=certificates / "authority.pem"))
