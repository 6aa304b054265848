"""Words of the protocols: which commands read, wait, control, or take many keys."""

from __future__ import annotations

import re

# fmt: off
CACHE_SYSTEMS = frozenset({"redis", "memcached", "valkey", "keydb", "dragonfly"})
DOCUMENT_SYSTEMS = frozenset({
    "mongodb", "mongoose", "elasticsearch", "opensearch", "dynamodb", "aws.dynamodb", "couchdb",
    "couchbase", "cosmosdb", "azure.cosmosdb", "firestore", "gcp.firestore",
})

READS = frozenset({
    "SELECT", "WITH", "VALUES", "TABLE", "GET", "MGET", "HGET", "HMGET", "HGETALL",
    "EXISTS", "TTL", "SMEMBERS", "ZRANGE", "LRANGE", "HEAD", "FIND", "SEARCH", "AGGREGATE",
    "COUNT", "COUNTDOCUMENTS", "DISTINCT", "GETITEM", "QUERY",
})
SQL_CONTROL = frozenset({
    "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "PRAGMA", "USE",
    "CONNECT", "DISCONNECT", "PING", "AUTH", "SELECT_DB", "HELLO", "CLIENT", "DISCARD", "RESET",
    "DEALLOCATE", "PREPARE", "CLOSE", "QUIT", "END", "ABORT", "UNLISTEN", "SHOW",
    # A server-side cursor reads a long answer in pieces, as it should.
    "DECLARE", "FETCH", "MOVE",
})
# Redis speaks some of these words itself: SET writes a key there and is no control.
CACHE_CONTROL = frozenset({
    "AUTH", "HELLO", "CLIENT", "PING", "SELECT", "QUIT", "RESET", "MULTI", "EXEC", "DISCARD",
    "WATCH", "UNWATCH", "INFO", "CONNECT", "COMMAND", "SCRIPT", "ECHO", "ROLE", "CLUSTER",
})
BLOCKING_COMMANDS = frozenset({
    "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
    "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "WAIT", "WAITAOF", "MONITOR",
})
# Each call goes on where the one before it ended.
CURSOR_COMMANDS = frozenset({"SCAN", "HSCAN", "SSCAN", "ZSCAN", "XREADGROUP", "XAUTOCLAIM"})
# What these ask for is one field or member of what the key holds.
FIELD_COMMANDS = frozenset({
    "HGET", "HSET", "HSETNX", "HEXISTS", "HSTRLEN", "SISMEMBER", "ZSCORE", "ZRANK", "LINDEX",
})
CACHE_READS = frozenset({"GET", "GETS", "HGET", "HGETALL", "GETEX", "GAT", "SMEMBERS", "LRANGE"})
CACHE_WRITES = frozenset({
    "SET", "SETEX", "PSETEX", "SETNX", "ADD", "HSET", "HMSET", "REPLACE", "CAS", "GETSET", "PUT",
})
KEY_MANY_COMMANDS = frozenset({"SADD", "ZADD", "LPUSH", "RPUSH"})
MANY_KEY_COMMANDS = KEY_MANY_COMMANDS | {
    "MGET", "DEL", "UNLINK", "EXISTS", "TOUCH", "GET", "GETS", "GATS",
}
# Nobody sends these for one key: they are batches, also where only the command is told.
MANY_BY_NAME = frozenset({"MGET", "MSET", "MSETNX", "JSON.MGET", "GATS"})
# What clients call a batch of commands.
PIPELINES = frozenset({
    "PIPELINE", "PIPELINED", "MULTI_GET", "MULTIGET", "GET_MANY", "GETMANY", "GET_MULTI",
    "GETMULTI", "SET_MANY", "SETMANY", "SET_MULTI", "SETMULTI", "DELETE_MANY", "DELETE_MULTI",
})
PAGE_PARAMETERS = frozenset({
    "page", "offset", "cursor", "after", "before", "start", "skip", "page_token", "p", "pagetoken",
    "pagenumber", "page_number", "pageno", "page_no", "page[number]", "page[offset]",
    "page[after]", "starting_after", "ending_before", "start_index", "startindex", "startat",
    "next_token", "nexttoken", "continuation", "continuationtoken", "continuation_token", "marker",
    "startcursor", "endcursor", "next_cursor", "nextcursor", "since_id", "max_id",
    "$skip", "scroll_id", "page_info", "pageindex",
})
# fmt: on

# Names of parts of a query that are not the query itself; also read by Arrow (RE2).
PART_OF_QUERY = (
    r"(?:^|::|\.|\\)(?:prepare\w*|fetch(?:All|Column|Object|Row|Array|Assoc|One)?|rows|"
    r"close\w*|reset_session|bindValue|bindParam)$|^prepare "
)
# Names of spans about connections and transactions.
CONTROL_NAMES = re.compile(
    PART_OF_QUERY + r"|(?:^|::|[.\\ :-])(?:begin(?:_?tx|_?transaction)?|commit(?:transaction)?"
    r"|roll_?back(?:transaction)?|savepoint|dial|ping|connect(?:or|ion)?|auth|getmore)$"
    r"|::__construct$",
    re.IGNORECASE,
)
BATCH_NAMES = re.compile(r"^batch\b|\b(?:bulk|batch)(?:write|insert|get|update)?\b", re.IGNORECASE)
