"""What the tests of fetching share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings of pip, proxies and certificates on this machine are, the test sees none."""
    strange = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in [name for name in os.environ if name.startswith("PIP_") or name.upper() in strange]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
