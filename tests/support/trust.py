"""Public authorities are read once a run: clients of loopback have no use for them, and there are many."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from httpx._transports import default


@pytest.fixture(scope="session", autouse=True)
def trusted_once() -> Iterator[None]:
    """For clients that neither name whom to trust nor let the environment say it."""
    real = default.create_ssl_context
    usual = cache(lambda: real(trust_env=False))

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is True and cert is None and not trust_env:
            return usual()
        return real(verify, cert, trust_env)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", context)
        yield
