"""What a persona says about recording its calls."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

KEY = r"^([0-9*#])?$"


class RecordingPolicy(BaseModel):
    """Off unless `enabled`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = False
    announcement: str = Field("", max_length=300, description="said before the greeting of a recorded call")
    pause_key: str = Field("", pattern=KEY, description="the caller's key that pauses the recording; empty for none")
    resume_key: str = Field("", pattern=KEY, description="the key that ends the pause")

    @field_validator("announcement")
    @classmethod
    def _stripped(cls, value: str) -> str:
        return " ".join(value.split())

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if bool(self.pause_key) != bool(self.resume_key):
            raise ValueError("pause_key and resume_key go together")
        if self.pause_key and self.pause_key == self.resume_key:
            raise ValueError("pause_key and resume_key must differ")
        return self
