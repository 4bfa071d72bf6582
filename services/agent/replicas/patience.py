"""How long a silence may last before it counts as one: learnt from silences that were none. Pure."""

_TIMES = 4.0  # as long as the longest of late
_FORGET = 0.97  # of that, with each wait that ends well


class Patience:
    """Of one stage, shared by all calls: on a machine under load all are slow, and none should be left for that.

    Args:
        least_s: nobody is left sooner.
        most_s: nobody is waited for longer.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._longest_s = 0.0

    @property
    def seconds(self) -> float:
        """Wait so long."""
        return min(max(self._least_s, _TIMES * self._longest_s), self._most_s)

    def waited(self, seconds: float) -> None:
        """So long a wait ended well."""
        self._longest_s = max(seconds, self._longest_s * _FORGET)

    def lost(self) -> None:
        """A wait was given up: should all be slow, the next one may take longer."""
        self._longest_s = max(self._longest_s, self.seconds / _TIMES * 1.5)
