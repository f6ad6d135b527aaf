"""The few errors that cross a port, each named for what the caller may do next."""

from __future__ import annotations

from squareoff.core.bad_input import BadInput as BadInput
from squareoff.core.types import ClientOrderId


class SquareoffError(Exception):
    """Something squareoff can explain to the person at the keyboard."""


class OrderRefused(SquareoffError):
    """The broker said no, so nothing is live.

    `permanent`: repeating cannot help (margin, product, unknown symbol). `token`: the login is not valid.
    """

    def __init__(self, order: ClientOrderId, reason: str, *, permanent: bool = True, token: bool = False) -> None:
        self.client_order_id, self.reason, self.permanent, self.token = order, reason, permanent, token
        super().__init__(f"order {order} refused: {reason}")


class NeverSent(SquareoffError):
    """Certainly no byte of the order left this machine: the same attempt may be sent again."""

    def __init__(self, order: ClientOrderId, reason: str) -> None:
        self.client_order_id, self.reason = order, reason
        super().__init__(f"order {order} was never sent: {reason}")


class RateLimited(SquareoffError):
    """The venue said 429 and took nothing: wait, then send the same attempt. Not counted as a try."""

    def __init__(self, order: ClientOrderId, retry_after_s: float) -> None:
        self.client_order_id, self.retry_after_s = order, retry_after_s
        super().__init__(f"order {order} not taken: too many requests, again in {retry_after_s:g} s")


class OutcomeUnknown(SquareoffError):
    """No clear answer, so the order may be live. Look it up before anything else."""

    def __init__(self, order: ClientOrderId, reason: str) -> None:
        self.client_order_id, self.reason = order, reason
        super().__init__(f"order {order}: outcome unknown: {reason}")


class BrokerUnavailable(SquareoffError):
    """A question to the broker was not answered. Never read as "nothing there"."""


class GateClosed(SquareoffError):
    """The last check before the bytes said no: fence, deadline or a wish. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StoreUnavailable(SquareoffError):
    """Redis did not answer clearly. Exits go on without it; entries wait."""


class RecordsUnavailable(SquareoffError):
    """SQL did not answer clearly. Exits go on under the spool; entries wait."""


class WishTakenBack(SquareoffError):
    """The user took the START back before it was taken up: make no run."""


class FenceLost(SquareoffError):
    """Another worker has taken the account: stop sending at once."""


class EntriesBlocked(SquareoffError):
    """The account's kill switch is on: the licence to buy was not given, nothing was changed."""


class Conflict(SquareoffError):
    """It was changed meanwhile by somebody else: nothing was saved. Look at what it is now, then decide again."""

    def __init__(self, what: str, *, revision: int) -> None:
        self.revision = revision
        super().__init__(f"{what} was changed meanwhile: look at what it says now, then change that; nothing was saved")


class SecretsUnreadable(SquareoffError):
    """A secret is there, but no key here opens it: put the key file back, or set the secret again."""


class AlreadyRunning(SquareoffError):
    """Somebody else holds the account or the data folder; the message says who."""
