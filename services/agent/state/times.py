"""How long things stay in Redis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds: a lease's length, how long ended calls stay, and for how long a lost one can be gone on with."""

    lease_s: float = 15.0
    keep_s: int = 7 * 24 * 3600
    resume_s: int = 600

    @property
    def renew_s(self) -> float:
        """How often a lease is renewed; a few may be missed."""
        return self.lease_s / 5
