"""Dramatiq's master, as `python -m dramatiq` is, but that it takes the folder of the metrics away when it ends."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

from dramatiq.cli import main

from relay import log
from relay.settings import SettingsError, read_settings

if __name__ == "__main__":
    own = find_spec("dramatiq.__main__")
    assert own is not None
    assert own.origin is not None
    sys.argv[0] = own.origin  # by which it starts itself anew on SIGHUP
    try:
        log.configure(read_settings())  # the master's own lines, too
    except SettingsError as error:
        sys.exit(f"{error}")
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""), ignore_errors=True)
