"""Which certificate authorities the transport trusts: the system's bundle, wherever this system keeps it."""

from __future__ import annotations

import importlib
import importlib.util
import ssl
from collections.abc import Sequence
from pathlib import Path

import pycurl

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
