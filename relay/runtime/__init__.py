"""What one process of each kind is made of."""

from relay.runtime.web import Web
from relay.runtime.worker import Worker

__all__ = ["Web", "Worker"]
