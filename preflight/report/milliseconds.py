"""Round-trip times as text, for very many of them."""

from __future__ import annotations

_MOST = 10_000  # remembered: most times occur more than once in what was read from a packed file


class Milliseconds(dict[float, str]):
    """The text of each time, to a microsecond; `nothing` for NaN, which was not measured."""

    def __init__(self, nothing: str) -> None:
        super().__init__()
        self._nothing = nothing

    def __missing__(self, time: float) -> str:
        if time != time:  # noqa: PLR0124 - NaN equals nothing
            return self._nothing
        if len(self) > _MOST:
            self.clear()
        self[time] = text = repr(round(time, 3))
        return text
