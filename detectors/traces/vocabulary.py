"""Words of the protocols: which commands read, wait, control, or take many keys."""

from __future__ import annotations

# fmt: off
CACHE_SYSTEMS = frozenset({"redis", "memcached", "valkey", "keydb", "dragonfly"})
DOCUMENT_SYSTEMS = frozenset({
    "mongodb", "elasticsearch", "opensearch", "dynamodb", "aws.dynamodb", "couchdb", "couchbase",
    "cosmosdb", "azure.cosmosdb", "firestore", "gcp.firestore",
})

READS = frozenset({
    "SELECT", "WITH", "SHOW", "VALUES", "TABLE", "GET", "MGET", "HGET", "HMGET", "HGETALL",
    "EXISTS", "TTL", "SMEMBERS", "ZRANGE", "LRANGE", "HEAD", "FIND", "SEARCH", "AGGREGATE",
    "COUNT", "COUNTDOCUMENTS", "DISTINCT", "GETITEM", "QUERY",
})
SQL_CONTROL = frozenset({
    "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "PRAGMA", "USE",
    "CONNECT", "DISCONNECT", "PING", "AUTH", "SELECT_DB", "HELLO", "CLIENT", "DISCARD", "RESET",
    "DEALLOCATE", "PREPARE", "CLOSE", "QUIT", "END", "ABORT", "UNLISTEN",
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
CACHE_READS = frozenset({"GET", "GETS", "HGET", "HGETALL", "GETEX", "GAT", "SMEMBERS", "LRANGE"})
CACHE_WRITES = frozenset({
    "SET", "SETEX", "PSETEX", "SETNX", "ADD", "HSET", "HMSET", "REPLACE", "CAS", "GETSET", "PUT",
})
KEY_MANY_COMMANDS = frozenset({"HMGET", "SADD", "ZADD", "HMSET", "LPUSH", "RPUSH"})
MANY_KEY_COMMANDS = KEY_MANY_COMMANDS | {"MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"}
PAGE_PARAMETERS = frozenset({
    "page", "offset", "cursor", "after", "before", "start", "skip", "page_token", "p", "pagetoken",
    "pagenumber", "page_number", "pageno", "page_no", "page[number]", "page[offset]",
    "page[after]", "starting_after", "ending_before", "start_index", "startindex", "startat",
    "next_token", "nexttoken", "continuation", "continuationtoken", "continuation_token", "marker",
    "since_id", "max_id", "$skip", "scroll_id", "page_info", "pageindex",
})
# fmt: on
