"""A cursor over tokens, and the errors of an unexpected one."""

from __future__ import annotations

from store.promql.lexer import SyntaxFault, Token


class Tokens:
    """Reads tokens one at a time with one of look-ahead; past the end stands `eof`."""

    def __init__(self, tokens: list[Token], length: int) -> None:
        self._tokens = tokens
        self._eof = Token("eof", "", length, length)
        self._place = 0
        self.last_end = 0

    @property
    def peek(self) -> Token:
        return self._at(self._place)

    @property
    def after(self) -> Token:
        return self._at(self._place + 1)

    def _at(self, place: int) -> Token:
        return self._tokens[place] if place < len(self._tokens) else self._eof

    def next(self) -> Token:
        token = self.peek
        self._place += 1
        self.last_end = token.end
        return token

    def expect(self, kind: str, context: str) -> Token:
        if self.peek.kind != kind:
            raise self.unexpected(f'"{kind}"', context)
        return self.next()

    def unexpected(self, expected: str = "", context: str = "") -> SyntaxFault:
        token = self.peek
        unclosed = self._unclosed() if token.kind == "eof" else ""
        if unclosed:
            return SyntaxFault(unclosed, token.start)
        what = "end of input" if token.kind == "eof" else f'{_named(token.kind)}"{token.text}"'
        message = f"unexpected {what}"
        if context:
            message += f" in {context}"
        if expected:
            message += f", expected {expected}"
        return SyntaxFault(message, token.start)

    def _unclosed(self) -> str:
        """What Prometheus's lexer says of a text that ends within brackets."""
        kinds = [token.kind for token in self._tokens]
        if kinds.count("{") > kinds.count("}"):
            return "unexpected end of input inside braces"
        if kinds.count("(") > kinds.count(")"):
            return "unclosed left parenthesis"
        return ""

    def label_list(self) -> tuple[str, ...]:
        """`(a, b)` of a grouping; names may be quoted."""
        self.expect("(", "grouping opts")
        labels: list[str] = []
        while self.peek.kind != ")":
            token = self.peek
            if token.kind not in ("identifier", "string", "keyword", "aggregation"):
                raise self.unexpected("label", "grouping opts")
            labels.append(self.next().text)
            if self.peek.kind != ",":
                break
            self.next()
        self.expect(")", "grouping opts")
        return tuple(labels)


def _named(kind: str) -> str:
    names = {
        "string": "string ",
        "number": "number ",
        "duration": "duration ",
        "identifier": "identifier ",
        "metric": "metric name ",
        "keyword": "<",
    }
    return names.get(kind, "").replace("<", "")
