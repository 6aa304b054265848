"""Findings in words: titles, and fixes in the terms of the ORM or client that made the spans."""

from __future__ import annotations

from detectors.traces.shape import Category, Shape

_WRITES = {
    "INSERT": "bulk_create(objects) in one statement",
    "REPLACE": "bulk_create(objects) in one statement",
    "UPDATE": "bulk_update(objects, fields) or one UPDATE over a queryset",
    "DELETE": "one DELETE … WHERE id IN (…) over a queryset",
    "MERGE": "one statement over all rows",
}
_SAYS = {
    "n_plus_one_query": "queries in a loop",
    "n_plus_one_call": "calls in a loop",
    "n_plus_one_cache": "cache commands in a loop",
    "repeated_query": "times the same answer is asked for",
    "paginated_loop": "pages read in one request",
}


def loop_title(kind: str, count: int, shape: Shape, route: str, *, complete: bool) -> str:
    """One line: how many, of what, where."""
    number = f"{count}" if complete else f"at least {count} (incomplete trace)"
    subject = shape.table if shape.category == Category.QUERY and shape.table else shape.text[:80]
    return f"{number} {_SAYS[kind]}: {subject} in {route}"


def loop_fix(kind: str, shape: Shape, *, count: int) -> str:
    """What to change, in the words of the tool that is at hand."""
    if kind == "repeated_query":
        return (
            f"Ask once and keep the answer for the request: a local variable, @cached_property or "
            f"functools.cache around the lookup of {shape.table or shape.text[:80]}; where it is a "
            f"related object read per row, select_related() brings it along."
        )
    if kind == "paginated_loop":
        return (
            f"{count} pages are read in one request: read once with a larger page, or stream with "
            f".iterator(chunk_size=2000); seek by key (WHERE id > last) instead of OFFSET."
        )
    if shape.category == Category.CALL:
        return (
            f"Call a bulk endpoint once with all ids instead of {count} times {shape.text[:120]}; "
            f"until there is one, send the calls at the same time (asyncio.gather, a thread pool)."
        )
    if shape.category == Category.CACHE:
        command = "MSET or a pipeline" if shape.operation in {"SET", "SETEX"} else "MGET"
        return (
            f"Use {command} once: cache.get_many(keys) / cache.set_many(values) for {shape.table}."
        )
    return _query_fix(shape)


def _query_fix(shape: Shape) -> str:
    write = _WRITES.get(shape.operation)
    if write is not None:
        return f"Collect the rows of the loop and write them at once: {write}."
    relation = shape.table.rpartition(".")[2]
    if shape.column in {"id", "pk", "uuid"}:
        name = relation.rpartition("_")[2] or "relation"
        return (
            f'Load {relation} with the list: .select_related("{name}") (JOIN), or one '
            f"WHERE {shape.column} IN (…): in_bulk(ids)."
        )
    if shape.column.endswith("_id"):
        return (
            f'Load the {relation} rows of all objects in one query: .prefetch_related("{relation}")'
            f" (one WHERE {shape.column} IN (…))."
        )
    return (
        f"Fetch all rows of {relation or 'the loop'} in one query (WHERE {shape.column or 'key'} "
        f"IN (…), prefetch_related or a JOIN) and look them up in memory."
    )
