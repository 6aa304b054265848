"""What may stand under `options` of a panel, by its kind."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MAX_ROWS = 200
_SITE_PATH = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")
_WEB_ADDRESS = re.compile(r"https?://[^\x00-\x1f\x7f]+", re.IGNORECASE)


def _link(text: str) -> str:
    if not (_SITE_PATH.fullmatch(text) or _WEB_ADDRESS.fullmatch(text)):
        raise ValueError("a link is a path of this site, such as /slos, or an http(s) address")
    return text


Link = Annotated[str, Field(max_length=2_000), AfterValidator(_link)]
Name = Annotated[str, Field(max_length=200)]


class _Options(BaseModel):
    """Of every kind. Strict, so that `limit: a` or `limit: true` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    href: Link = "/"
    place: Literal["", "rail", "footer"] = ""
    limit: int = Field(default=1, ge=1, le=MAX_ROWS)


class _Stat(_Options):
    spark: str = Field(default="", max_length=10_000)
    judged_by: Name = ""
    warn_above: float = Field(default=0.0, allow_inf_nan=False)
    warn_below: float = Field(default=0.0, allow_inf_nan=False)
    crit_above: float = Field(default=0.0, allow_inf_nan=False)
    crit_below: float = Field(default=0.0, allow_inf_nan=False)


class _Band(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: Name
    high: Name
    expected: Name = ""


class _Timeseries(_Options):
    band: _Band | None = None


class _Table(_Options):
    columns: list[Name] = Field(default=[], max_length=50)


_BY_KIND: Mapping[str, type[_Options]] = {
    "stat": _Stat,
    "timeseries": _Timeseries,
    "table": _Table,
}


def options_problem(kind: str, options: Mapping[str, Any]) -> str:
    """The first mistake in the options of a panel; empty where there is none."""
    model = _BY_KIND.get(kind, _Options)
    try:
        model.model_validate(options)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("options", *first["loc"]))
        if first["type"] != "extra_forbidden" or len(first["loc"]) > 1:
            return f"{where}: {first['msg'].removeprefix('Value error, ')}"
        near = difflib.get_close_matches(str(first["loc"][0]), sorted(model.model_fields), 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return f"{where}: a panel of the kind {kind} has no such option{meant}"
    return ""
