"""Round-trip times as text, for very many of them."""

from __future__ import annotations

_MOST = 10_000  # remembered: most times occur more than once in what was read from a packed file


class Milliseconds(dict[float, str]):
    """The text of each time, to a microsecond; `nothing` for NaN, which was not measured.

    With `bare` a whole number has no fraction: the form of `core.digest`.
    """

    def __init__(self, nothing: str, *, bare: bool = False) -> None:
        super().__init__()
        self._nothing = nothing
        self._bare = bare

    def __missing__(self, time: float) -> str:
        if time != time:  # noqa: PLR0124 - NaN equals nothing
            return self._nothing
        if len(self) > _MOST:
            self.clear()
        text = repr(round(time, 3))
        self[time] = text = text.removesuffix(".0") if self._bare else text
        return text
