"""Encryption at rest of what is personal: AES-256-GCM (NIST SP 800-38D) with keys of the operator's."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.agent.state.address import StateError

KEY_BYTES = 32
NONCE_BYTES = 12
_FORM = "each key is written as name:base64 of 32 bytes, separated by commas or lines, the one to write with first"


class Sealer:
    """Seals texts with the first key, and opens those sealed with any of them. Without keys nothing is sealed.

    A sealed text is bound to its context, which names the record it belongs to: elsewhere it does not open.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> "Sealer":
        """Reads keys as an operator lists them; none when the text is blank.

        Raises:
            StateError: something else is in it; the message does not repeat keys.
        """
        keys: dict[str, bytes] = {}
        for number, item in enumerate(filter(None, (part.strip() for part in text.replace("\n", ",").split(","))), 1):
            name, separator, encoded = item.partition(":")
            if not separator or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise StateError(f"state key {number} has no name; {_FORM}")
            try:
                key = base64.b64decode(encoded.strip(), validate=True)
            except binascii.Error as error:
                raise StateError(f"state key {name!r} is no base64; {_FORM}") from error
            if len(key) != KEY_BYTES:
                raise StateError(f"state key {name!r} has {len(key)} bytes instead of {KEY_BYTES}; {_FORM}")
            if name in keys:
                raise StateError(f"state key {name!r} is listed twice")
            keys[name] = key
        return cls(keys)

    @property
    def seals(self) -> bool:
        """There is a key to seal with."""
        return bool(self._ciphers)

    def seal(self, text: str, context: str) -> str:
        """The text sealed with the first key: its name, and base64 of nonce, ciphertext and tag."""
        name, cipher = next(iter(self._ciphers.items()))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return f"{name}:{base64.b64encode(nonce + cipher.encrypt(nonce, text.encode(), context.encode())).decode()}"

    def open(self, sealed: str, context: str) -> str:
        """The text of what `seal` gave for this context.

        Raises:
            StateError: sealed with a key that is not listed, or it was altered, or belongs elsewhere.
        """
        name, _, encoded = sealed.partition(":")
        cipher = self._ciphers.get(name)
        if cipher is None:
            listed = ", ".join(self._ciphers) or "none"
            raise StateError(f"a record is sealed with the state key {name!r}, which is not listed (listed: {listed})")
        try:
            raw = base64.b64decode(encoded, validate=True)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], context.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise StateError(f"the state key {name!r} does not open a record: wrong key, or it was altered") from error

    def digests(self, text: str) -> list[str]:
        """Names under which to look for a text without storing it, the one to store under first.

        With keys it takes them to find out the text again (HMAC-SHA-256); without, trying all numbers does.
        """
        if not self._keys:
            return [hashlib.sha256(text.encode()).hexdigest()]
        return [hmac.new(key, b"digest:" + text.encode(), hashlib.sha256).hexdigest() for key in self._keys.values()]
