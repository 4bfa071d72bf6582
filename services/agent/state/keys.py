"""Names of what is kept in Redis.

The part in braces is the hash tag (Redis Cluster specification): keys with the same one lie in one slot, so one script
may change them together. A call's keys share one, and so do all personas', who are few and refer to each other.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """All names, behind a prefix that keeps several installations apart on one Redis."""

    prefix: str = "trunkline:"

    def call(self, call_id: str) -> str:
        """Hash: the call's record."""
        return f"{self.prefix}call:{{{call_id}}}"

    def lease(self, call_id: str) -> str:
        """String with a TTL: the agent that holds the call."""
        return f"{self.call(call_id)}:lease"

    def heard(self, call_id: str) -> str:
        """String: what was heard so far of the answer under way."""
        return f"{self.call(call_id)}:heard"

    def resume(self, call_id: str) -> str:
        """String: hash of the secret with which its page comes back."""
        return f"{self.call(call_id)}:resume"

    def conversation(self, call_id: str) -> str:
        """Stream: the entries of the conversation, with ids `{number}-0` from 1 on."""
        return f"{self.prefix}conversation:{{{call_id}}}"

    def listeners(self, call_id: str) -> str:
        """Hash: who listened in, by an id of each time."""
        return f"{self.call(call_id)}:listeners"

    @property
    def agents(self) -> str:
        """Set: ids of agents that were there lately."""
        return f"{self.prefix}agents"

    def agent(self, agent_id: str) -> str:
        """String with a TTL: what an agent says of itself."""
        return f"{self.prefix}agent:{{{agent_id}}}"

    @property
    def live(self) -> str:
        """Set: ids of calls that have not ended."""
        return f"{self.prefix}calls:live"

    def caller(self, digest: str) -> str:
        """String with a TTL: the last call of a phone caller with a persona."""
        return f"{self.prefix}caller:{{{digest}}}"

    @property
    def voices(self) -> str:
        """Hash: what is told of each voice."""
        return f"{self.prefix}voices:{{voices}}"

    @property
    def voices_gone(self) -> str:
        """Hash: when voices were deleted, by their id at the decoders."""
        return f"{self.voices}:gone"

    def voice(self, name: str) -> str:
        """Hash: a voice's reference, and who consented to it."""
        return f"{self.prefix}voice:{{voices}}:{name}"

    def draft(self, digest: str) -> str:
        """String with a TTL: a persona that is tried before it is stored."""
        return f"{self.prefix}draft:{{{digest}}}"

    def persona(self, name: str) -> str:
        """Hash: a persona's newest version."""
        return f"{self.prefix}persona:{{personas}}:{name}"

    def persona_version(self, name: str, version: int) -> str:
        """Hash: one version of a persona."""
        return f"{self.persona(name)}:{version}"

    @property
    def personas(self) -> str:
        """A name of the personas' slot, for what belongs to all of them."""
        return f"{self.prefix}personas:{{personas}}"
