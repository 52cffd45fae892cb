"""The API and the page: what the ledger holds, for scripts and for people. Loads no model library."""

from __future__ import annotations

from monitor.web.app import create_app
from monitor.web.server import serving

__all__ = ["create_app", "serving"]
