"""Orders, funnel and abandonment over any range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Json, kpi_json, number
from api.times import parse_time
from business_metrics.abandonment import Abandonment, AbandonmentPoint
from business_metrics.evaluation import BusinessEvaluator
from business_metrics.funnel import FunnelStep
from business_metrics.model import KpiReading
from business_metrics.pacing import ComparedDay, Pace, Sold
from business_metrics.queries import OrderPoint, Orders, Step
from store.timestamps import rfc3339

_HOUR_MS = 3_600_000
_YEAR_S = 31_536_000


class Span(BaseModel):
    """A range of time, and what to look at in it."""

    model_config = ConfigDict(extra="ignore")

    start: str = Field("", max_length=64, alias="from")
    end: str = Field("", max_length=64, alias="to")
    by: str = Field("", max_length=64)
    segment: str = Field("", max_length=256)

    def range_ms(self, now_ms: int) -> tuple[int, int]:
        end_ms = parse_time(self.end, now_ms, now_ms)
        return parse_time(self.start, now_ms, end_ms - _HOUR_MS), end_ms


class Window(Span):
    """A range of time and a step in seconds, or `day`: the store's own days."""

    step: Literal["day"] | Annotated[float, Field(gt=0, le=_YEAR_S)] = 60.0

    @property
    def cut(self) -> Step:
        return "day" if self.step == "day" else max(1, round(self.step * 1000))


def router(
    business: BusinessEvaluator,
    readings: Callable[[], tuple[KpiReading, ...]],
    now: Callable[[], int],
) -> APIRouter:
    """`/business/{kpis,orders,funnel,abandonment,search-abandonment,pace}`."""
    routes = APIRouter(prefix="/api/warroom/v1/business", tags=["business"])

    @routes.get("/kpis")
    async def kpis() -> Json:
        return {"kpis": [kpi_json(reading) for reading in readings()], "next": None}

    @routes.get("/orders")
    async def orders(asked: Annotated[Window, Query()]) -> Json:
        start_ms, end_ms = asked.range_ms(now())
        answer = await run_in_threadpool(business.orders, start_ms, end_ms, asked.cut)
        return _orders_json(answer)

    @routes.get("/funnel")
    async def funnel(asked: Annotated[Span, Query()]) -> Json:
        start_ms, end_ms = asked.range_ms(now())
        steps = await run_in_threadpool(business.funnel, start_ms, end_ms, asked.segment)
        return {"steps": [_step_json(step) for step in steps]}

    @routes.get("/abandonment")
    async def abandonment(asked: Annotated[Window, Query()]) -> Json:
        start_ms, end_ms = asked.range_ms(now())
        answer = await run_in_threadpool(
            business.abandonment, start_ms, end_ms, asked.cut, asked.by
        )
        return _abandonment_json(answer)

    @routes.get("/search-abandonment")
    async def search_abandonment(asked: Annotated[Window, Query()]) -> Json:
        start_ms, end_ms = asked.range_ms(now())
        answer = await run_in_threadpool(
            business.search_abandonment, start_ms, end_ms, asked.cut, asked.by
        )
        return _abandonment_json(answer)

    @routes.get("/pace")
    async def pace(at: Annotated[str, Query(max_length=64)] = "") -> Json:
        now_ms = now()
        at_ms = min(parse_time(at, now_ms, now_ms), now_ms)
        return _pace_json(await run_in_threadpool(business.pace, at_ms), business.currency)

    return routes


def _pace_json(pace: Pace, currency: str) -> Json:
    forecast = pace.forecast
    return {
        "day": pace.day.isoformat(),
        "currency": currency,
        "so_far": _sold_json(pace.so_far),
        "expected_orders_so_far": number(pace.expected_so_far),
        "ratio": number(pace.ratio),
        "forecast": None
        if forecast is None
        else {
            "orders": number(forecast.orders),
            "low": number(forecast.low),
            "high": number(forecast.high),
            "revenue": None if forecast.revenue is None else str(forecast.revenue),
        },
        "last_week": _compared_json(pace.last_week),
        "last_sale": _compared_json(pace.last_sale),
        "baseline": pace.baseline,
    }


def _compared_json(compared: ComparedDay | None) -> Json | None:
    if compared is None:
        return None
    return {
        "day": compared.day.isoformat(),
        "so_far": _sold_json(compared.so_far),
        "total": _sold_json(compared.total),
    }


def _sold_json(sold: Sold) -> Json:
    revenue = None if sold.revenue is None else str(sold.revenue)
    return {"orders": sold.orders, "revenue": revenue}


def _orders_json(answer: Orders) -> Json:
    risk = answer.revenue_at_risk
    return {
        "step_seconds": answer.step_s,
        "points": [_point_json(point) for point in answer.points],
        "baseline": answer.baseline,
        "revenue_at_risk": {
            "amount": str(risk.amount),
            "currency": risk.currency,
            "low": str(risk.low),
            "high": str(risk.high),
            "orders_missing": risk.orders_missing,
        }
        if risk
        else None,
    }


def _point_json(point: OrderPoint) -> Json:
    return {
        "at": rfc3339(point.at_ms),
        "orders": point.orders,
        "revenue": str(point.revenue),
        "expected_orders": number(point.expected_orders),
        "low": number(point.low),
        "high": number(point.high),
    }


def _step_json(step: FunnelStep) -> Json:
    return {
        "name": step.name,
        "sessions": step.sessions,
        "conversion_from_previous": number(step.conversion_from_previous),
        "median_seconds_from_previous": number(step.median_seconds_from_previous),
    }


def _abandonment_json(answer: Abandonment) -> Json:
    return {
        "matured_until": rfc3339(answer.matured_until_ms),
        "timeout_seconds": answer.timeout_s,
        "series": [
            {"labels": series.labels, "points": [_cohort_json(point) for point in series.points]}
            for series in answer.series
        ],
    }


def _cohort_json(point: AbandonmentPoint) -> Json:
    return {
        "at": rfc3339(point.at_ms),
        "started": point.started,
        "completed": point.completed,
        "abandoned": point.abandoned,
        "rate": number(point.rate),
        "low": number(point.low),
        "high": number(point.high),
        "provisional": point.provisional,
    }
