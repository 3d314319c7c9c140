"""Keys that versions are signed with, and that their signatures are held against."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec


def write_key(folder: Path, name: str, password: bytes = b"", key=None) -> None:
    """`name.pem` and `name.pub`, as openssl writes them."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    closed = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    content = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, closed)
    (folder / f"{name}.pem").write_bytes(content)
    public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
