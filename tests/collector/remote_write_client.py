"""The receiver with a pipeline that keeps what it gets, and requests as a sender makes them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import cramjam
import httpx

from collector.pipeline import Pushed
from store.errors import WarroomError
from store.model import Batch, SampleBatch

V2_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
PATH = "/api/v1/write"


class Sink:
    """Keeps what is pushed, or refuses as it is told."""

    def __init__(self) -> None:
        self.batches: list[SampleBatch] = []
        self.lost: dict[str, int] = {}
        self.failures: list[str] = []
        self.refusal: WarroomError | None = None
        self.drops: Mapping[str, int] = {}

    async def push(self, batch: Batch, source: str) -> Pushed:
        if self.refusal is not None:
            raise self.refusal
        assert isinstance(batch, SampleBatch)
        self.batches.append(batch)
        return Pushed(batch, self.drops)

    def dropped(self, source: str, reason: str, count: int) -> None:
        if count:
            self.lost[reason] = self.lost.get(reason, 0) + count

    @contextmanager
    def receiving(self, source: str) -> Iterator[None]:
        try:
            yield
        except WarroomError as error:
            self.failures.append(error.message)
            raise


async def send(client: httpx.AsyncClient, message: bytes, **headers: str) -> httpx.Response:
    return await client.post(
        PATH,
        content=bytes(cramjam.snappy.compress_raw(message)),
        headers={
            "content-encoding": "snappy",
            "content-type": "application/x-protobuf",
            **headers,
        },
    )


async def send_v2(client: httpx.AsyncClient, message: bytes) -> httpx.Response:
    return await send(client, message, **{"content-type": V2_TYPE})
