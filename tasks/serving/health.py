"""gRPC's own health protocol, `grpc.health.v1`: what Kubernetes, Envoy and other programs ask before they send anyone.

`Check` says of the server, or of a model by its name, what REST's probes say. `Watch` is left out: each watcher would
take the place of a request for as long as it lives.
"""

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer
from kserve.protocol.dataplane import DataPlane

from tasks.serving.access import ASK, has_key
from tasks.serving.model import ServedModel, model_for


class Health(HealthServicer):  # type: ignore[misc]  # gRPC has no annotations
    """Whether more requests should come here.

    Args:
        models: those that are served; their names are its services, and the server's own has none.
        plane: knows whether they are ready, and whether the server is leaving.
        keys: one of which has to be brought by who asks of a model; the server's own health needs none.

    """

    def __init__(self, models: Sequence[ServedModel], plane: DataPlane, keys: tuple[bytes, ...]) -> None:
        self.models, self.plane, self.keys = models, plane, keys

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802
        """SERVING or NOT_SERVING; of a model that is not here NOT_FOUND."""
        if request.service:
            sent = str(dict(context.invocation_metadata() or ()).get("authorization", "")).encode()
            if self.keys and not has_key(sent, self.keys):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, ASK)
            model_for(self.models, request.service)
            ready = await self.plane.model_ready(request.service)
        else:
            ready = await self.plane.ready()
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)

    async def Watch(self, _: HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """Refuse; a client that wants to watch takes that for healthy, as the protocol has it."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask by Check: watching is not offered here")
