"""What a persona says about people who look over its shoulder."""

from pydantic import BaseModel, ConfigDict, Field


class SupervisionPolicy(BaseModel):
    """Off unless told otherwise: listening in on people takes a reason, and often their knowledge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: bool = Field(False, description="operators may listen in on this persona's calls")
