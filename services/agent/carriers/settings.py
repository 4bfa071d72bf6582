"""The carriers that an agent is set up for. Secrets come from the environment or from files."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.agent.carriers.base import Carrier
from services.agent.carriers.plivo import Plivo
from services.agent.carriers.telnyx import Telnyx
from services.agent.carriers.twilio import Twilio
from services.agent.secrets import read_secret


class CarrierSettings(BaseSettings):
    """`TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN`, or `TRUNKLINE_AGENT_TWILIO_AUTH_TOKEN_FILE`, and so on."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_AGENT_", extra="ignore")

    twilio_auth_token: SecretStr = SecretStr("")
    twilio_auth_token_file: str = ""
    telnyx_public_key: str = ""
    plivo_auth_token: SecretStr = SecretStr("")
    plivo_auth_token_file: str = ""

    def carriers(self) -> list[Carrier]:
        """Those that have their secret.

        Raises:
            ValueError: a secret is unusable; the message names the variable and does not show it.
        """
        found: list[Carrier] = []
        if token := self._secret("twilio_auth_token"):
            found.append(Twilio(token))
        if self.telnyx_public_key:
            found.append(Telnyx(self.telnyx_public_key))
        if token := self._secret("plivo_auth_token"):
            found.append(Plivo(token))
        return found

    def _secret(self, name: str) -> str:
        variable = f"{self.model_config['env_prefix']}{name}".upper()
        return read_secret(getattr(self, name), getattr(self, f"{name}_file"), variable)
