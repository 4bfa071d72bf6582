"""Who asks, and what there is: agents, and replicas of the models."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.agent.api.access import ViewerKey
from services.agent.api.answers import problems
from services.agent.api.keys import ApiKey
from services.agent.models import ModelServices, ReplicaStatus
from services.agent.state.agents import AgentCard, AgentDirectory


class Me(BaseModel):
    """The key that asks."""

    name: str
    role: str = Field(description="viewer, operator or admin")


class ReplicaBody(BaseModel):
    """A replica of a model service, as this agent sees it."""

    service: str = Field(description="tokenizer, lm or decoder")
    address: str
    state: str = Field(description="unknown, serving, draining or dead")
    serving: bool = Field(description="it takes new calls")
    failing: bool = Field(description="it failed several times in a row, and rests")
    capacity: int = Field(description="calls at once; 0 while it has not said")
    active: int = Field(description="slots taken, by all agents")
    held: int = Field(description="of them by this agent's calls")
    revision: str = Field(description="names the weights")

    @classmethod
    def of(cls, status: ReplicaStatus) -> "ReplicaBody":
        """From what the agent knows."""
        return cls(**vars(status))


class AgentBody(BaseModel):
    """An agent, as it last said of itself."""

    agent_id: str
    here: bool = Field(description="the one that is asked")
    address: str = Field(description="URL under which its API is reached; may be empty")
    calls: int
    capacity: int
    draining: bool
    started: datetime
    seen: datetime

    @classmethod
    def of(cls, card: AgentCard, agent_id: str) -> "AgentBody":
        """From its card."""
        return cls(
            agent_id=card.agent_id,
            here=card.agent_id == agent_id,
            address=card.address,
            calls=card.calls,
            capacity=card.capacity,
            draining=card.draining,
            started=datetime.fromtimestamp(card.started, UTC),
            seen=datetime.fromtimestamp(card.seen, UTC),
        )


class Replicas(BaseModel):
    """All there is."""

    models: list[ReplicaBody]
    agents: list[AgentBody]


def system_router(models: ModelServices, agents: AgentDirectory, agent_id: str) -> APIRouter:
    """`/me` and `/replicas`."""
    router = APIRouter(tags=["system"])

    @router.get("/me", responses=problems())
    async def me(key: ApiKey = ViewerKey) -> Me:
        """Whose key this is, and what it may."""
        return Me(name=key.name, role=key.role.value)

    @router.get("/replicas", dependencies=[ViewerKey], responses=problems())
    async def replicas() -> Replicas:
        """Health and load of the models' replicas, as this agent sees them, and of all agents on its Redis."""
        return Replicas(
            models=[ReplicaBody.of(status) for status in models.replicas()],
            agents=[AgentBody.of(card, agent_id) for card in await agents.all()],
        )

    return router
