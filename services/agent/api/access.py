"""Roles: which operation needs which."""

from collections.abc import Callable

from fastapi import Depends, HTTPException, Request

from services.agent.api.keys import ApiKey, Role
from services.agent.api.middleware import key_of


def _needs(role: Role) -> Callable[[Request], ApiKey]:
    def check(request: Request) -> ApiKey:
        key = key_of(request.scope["state"])
        if not key.role.includes(role):
            raise HTTPException(403, f"this needs the role {role.value}; the key {key.name!r} has {key.role.value}")
        return key

    return check


ViewerKey = Depends(_needs(Role.VIEWER))
OperatorKey = Depends(_needs(Role.OPERATOR))
AdminKey = Depends(_needs(Role.ADMIN))
