"""A certificate for localhost, by an authority of the tests. Called by whoever ends TLS in a test."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(directory: Path, certificate: str, key: str, names: str = "DNS:localhost") -> Path:
    """Make an authority and a certificate that it has signed; return the authority's file.

    Args:
        directory: where the files go.
        certificate: the file of the server's certificate.
        key: the file of its key.
        names: whom it is for, as OpenSSL writes them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    authority = ("-subj", "/CN=An authority of the tests", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *new, *authority, "-keyout", "authority.key", "-out", "authority.pem")
    (directory / "names").write_text(
        f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n", encoding="utf-8"
    )
    openssl("req", *new, "-subj", "/CN=localhost", "-keyout", key, "-out", "request.pem")
    signed = ("-req", "-in", "request.pem", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial")
    openssl("x509", *signed, "-days", "2", "-extfile", "names", "-out", certificate)
    return directory / "authority.pem"
