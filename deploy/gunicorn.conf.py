"""gunicorn's side of the web processes: everything it needs comes from Relay's settings."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from uvicorn_worker import UvicornWorker

from api.slow_clients import patient_http
from relay import log
from relay.processes import begin_to_serve, end_with_parent, metrics_folder
from relay.redis_modes import refuse_wrong_redis
from relay.settings import SettingsError, read_settings

try:
    _settings = read_settings()
    sys.stderr.writelines(f"{sentence}\n" for sentence in refuse_wrong_redis(_settings))
except SettingsError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(1) from None

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
os.environ.pop("prometheus_multiproc_dir", None)  # its old name
if _settings.metrics_provider:
    os.environ[_FOLDER] = metrics_folder(
        os.environ.get(_FOLDER, "")
    )  # read when a web process imports prometheus_client
else:
    os.environ.pop(_FOLDER, None)

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency


class logger_class(Logger):  # noqa: N801 - the name of gunicorn's setting
    """gunicorn's own lines in the format of all others."""

    def setup(self, cfg: Config) -> None:
        """Have no handlers of its own."""
        super().setup(cfg)
        log.configure(_settings)


class worker_class(UvicornWorker):  # noqa: N801 - the name of gunicorn's setting
    """Web processes that wait for no slow client, and write no line for every request: it cost more CPU than all of Redis."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 - its type there
        **UvicornWorker.CONFIG_KWARGS,
        "access_log": False,
        "http": patient_http(_settings.request_timeout_s),
        "server_header": False,
    }


proc_name = "relay-web"
backlog = 2048
keepalive = 75  # seconds; longer than the idle time of common load balancers, so that they close first
timeout = 30
graceful_timeout = _settings.shutdown_grace_s
loglevel = {"warn": "warning"}.get(_settings.log_level, _settings.log_level)
control_socket_disable = True  # its default path is one per user: two Relays on a machine would share it


def post_fork(server: object, worker: object) -> None:  # noqa: ARG001 - gunicorn passes both by position
    """Log as the settings say, and have the kernel end this worker when its master dies, however it dies."""
    log.configure(_settings)
    end_with_parent()


def post_worker_init(worker: object) -> None:  # noqa: ARG001
    """The application is loaded."""
    begin_to_serve()


def on_exit(server: object) -> None:  # noqa: ARG001
    """Leave no metrics behind."""
    shutil.rmtree(os.environ.get(_FOLDER, ""), ignore_errors=True)
