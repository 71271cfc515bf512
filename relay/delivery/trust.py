"""Which certificate authorities the transport trusts: the system's bundle, wherever this system keeps it, or an endpoint's."""

from __future__ import annotations

import importlib
import importlib.util
import ssl
from collections.abc import Sequence
from pathlib import Path

import pycurl

from relay.delivery.authorization import ClientTLS

# Debian and Alpine, Fedora and RHEL, SUSE, Alpine and the BSDs.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def ca_options(ca_file: str | None = None) -> Sequence[tuple[int, str]]:
    """Return the libcurl options that name the bundle to trust: the given one, else the system's, else certifi's.

    The wheel of pycurl carries its own OpenSSL, whose built-in paths exist on no machine but the one that built it.
    SSL_CERT_FILE and SSL_CERT_DIR are honoured, as everywhere in Python.
    """
    if ca_file is not None:
        return ((pycurl.CAINFO, ca_file),)
    paths = ssl.get_default_verify_paths()
    for bundle in (paths.cafile, *_BUNDLES):
        if bundle and Path(bundle).is_file():
            return ((pycurl.CAINFO, bundle),)
    if paths.capath and any(Path(paths.capath).iterdir()):
        return ((pycurl.CAPATH, paths.capath),)
    if importlib.util.find_spec("certifi") is not None:
        return ((pycurl.CAINFO, importlib.import_module("certifi").where()),)
    return ()


def tls_options(tls: ClientTLS, *, trust: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str | bytes]]:
    """Return the libcurl options for an endpoint's own certificates; its authorities replace those of `trust`.

    libcurl keeps a connection apart from those that were made with other certificates or authorities.
    """
    options: list[tuple[int, str | bytes]] = []
    if tls.authorities is None:
        options += trust
    else:
        options += ((pycurl.CAPATH, "/nonexistent"), (pycurl.CAINFO_BLOB, tls.authorities.encode()))
    if tls.certificate is not None and tls.key is not None:
        options += ((pycurl.SSLCERT_BLOB, tls.certificate.encode()), (pycurl.SSLKEY_BLOB, tls.key.encode()))
    return options
