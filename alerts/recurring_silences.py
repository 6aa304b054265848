"""Keeps silences that come again, and makes their occurrences."""

from __future__ import annotations

from alerts.recurring.silences import RecurringSilence, checked_recurring, due
from alerts.repository import AlertRepository, AlertTransaction
from alerts.silences import Silence, expired


class RecurringSilences:
    """What people do with silences that come again."""

    def __init__(self, repository: AlertRepository) -> None:
        self._repository = repository

    def all(self) -> list[RecurringSilence]:
        """Those that ended among them."""
        with self._repository.begin() as transaction:
            return transaction.recurring()

    def add(self, silence: RecurringSilence, now_ms: int) -> None:
        """Keep a new one; the tick makes its occurrences.

        Raises:
            BadInput: It is not valid.
        """
        with self._repository.begin() as transaction:
            transaction.lock()
            known = len(transaction.recurring())
            transaction.save_recurring(checked_recurring(silence, now_ms, known))

    def end(self, silence_id: str, now_ms: int) -> bool:
        """Drop one, and end its occurrence; False when there is none of that id."""
        with self._repository.begin() as transaction:
            transaction.lock()
            found = [one for one in transaction.recurring() if one.id == silence_id]
            over = {one.id for one in due(found, (), now_ms)}
            transaction.save_silences(
                expired(one, now_ms) for one in transaction.silences() if one.id in over
            )
            return transaction.delete_recurring(silence_id)


def occurrences(transaction: AlertTransaction, now_ms: int) -> list[Silence]:
    """Occurrences to keep, of silences whose window has opened."""
    recurring = transaction.recurring()
    if not recurring:
        return []
    return due(recurring, {silence.id for silence in transaction.silences()}, now_ms)
