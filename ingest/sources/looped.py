"""Speaking to an asyncio client from a source's own thread, never waiting longer than was agreed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class PrivateLoop:
    """An event loop that turns only while its thread waits for an answer.

    Args:
        timeout_s: The longest wait for one answer; TimeoutError afterwards.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._runner: asyncio.Runner | None = None

    def run(self, answer: Coroutine[Any, Any, Result], timeout_s: float | None = None) -> Result:
        """Wait for an answer.

        Raises:
            TimeoutError: It did not come.
        """
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(asyncio.wait_for(answer, timeout_s or self._timeout_s))

    def close(self) -> None:
        """End the loop with everything in it; the next answer begins another."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
