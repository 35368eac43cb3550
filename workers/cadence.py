"""How often the sequencer signs: soon after a quiet hour, seldom while leaves come without end.

A checkpoint is a row for ever. While every turn finds leaves the pause doubles, up to the longest; a turn
that finds none signs nothing and brings the shortest back.
"""

from __future__ import annotations


class Cadence:
    """When the next turn of the sequencer is due.

    Args:
        shortest_s: Pause after a turn that found nothing.
        longest_s: Pause that a busy log ends at; not less than the shortest counts.
        now_s: Any clock that only goes forward; a first turn is due at once.
    """

    def __init__(self, shortest_s: float, longest_s: float, now_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = max(shortest_s, longest_s)
        self._pause_s = shortest_s
        self._due_s = now_s

    def is_due(self, now_s: float) -> bool:
        """Whether to take a turn now."""
        return now_s >= self._due_s

    def took(self, placed: int, now_s: float) -> None:
        """A turn is over that gave so many leaves their places."""
        if not placed:
            self._pause_s = self._shortest_s
        self._due_s = now_s + self._pause_s
        if placed:
            self._pause_s = min(self._longest_s, self._pause_s * 2)
