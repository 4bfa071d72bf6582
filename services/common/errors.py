"""Failures that a caller can understand, each with the gRPC status that carries it."""

import grpc


class ServiceError(Exception):
    """Base of the errors below; the message says what was wrong and what is allowed."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL


class InvalidInputError(ServiceError):
    """A value is out of range or of the wrong form."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotAllowedError(ServiceError):
    """It could be done, and must not be."""

    code = grpc.StatusCode.PERMISSION_DENIED


class WrongOrderError(ServiceError):
    """A command came when it has no meaning."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class UnknownIdError(ServiceError):
    """No call, session or voice bears this id."""

    code = grpc.StatusCode.NOT_FOUND


class AtCapacityError(ServiceError):
    """Every slot is taken; try another replica or later."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class ContextFullError(ServiceError):
    """The model's context has no room left."""

    code = grpc.StatusCode.OUT_OF_RANGE


class DrainingError(ServiceError):
    """The process finishes what it has and takes nothing new."""

    code = grpc.StatusCode.UNAVAILABLE


class UnavailableError(ServiceError):
    """What the service stands on does not answer; it may later."""

    code = grpc.StatusCode.UNAVAILABLE


class WeightsError(Exception):
    """A checkpoint directory is missing, incomplete or of the wrong shape; raised before any port opens."""


class SetupError(Exception):
    """The engine cannot start the way it is set up; the message names the setting. Raised before any port opens."""
