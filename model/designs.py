"""The design as it is, and the ones it must not be: each takes one rule away, at one place of `model/protocol.py`.

They are the negative controls of the checker: one that is no longer caught means that the checker is blind.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """What is kept of the rules; all of it in the design as it is."""

    name: str = "rules"
    what: str = "the design as it is"
    faults: int = 2
    machines: int = 2
    lots: int = 2
    """1: nothing fills in part."""
    with_user: bool = True
    """Whether somebody may ask for STOP, at any moment."""
    venue_fails: bool = True
    """Whether orders may be lost, refused, late or unseen, as faults."""
    enforced: bool = False
    """Whether the venue refuses an order id that it has seen."""
    breaks: str = ""
    """The promise that must be seen broken; empty: none may be."""
    licence_once: bool = True
    """SQL gives the licence to buy once."""
    lease_at_the_gate: bool = True
    """The lease is asked for again right before the bytes."""
    resolves: bool = True
    """An order without an answer is looked up, not sent again."""
    send_mark: bool = True
    granted_may_be_sent: bool = True
    """A licence that another one gave counts as perhaps used."""
    redis_proves_nothing: bool = True
    stamps: bool = True
    """Whoever takes a licence over puts its own name on it."""
    latches: bool = True
    """A stop-loss seen is in the spool before anything else."""
    wish_in_sql: bool = True
    id_per_attempt: bool = True
    exit_licence_first: bool = True
    """On one machine too, SQL has the licence of an exit before it leaves."""
    reboot_doubts: bool = True
    """After a reboot the first exit of an open entry counts as perhaps sent."""
    stop_takes_licence: bool = True
    """Who decides that nobody buys takes the licence to buy."""


RULES = Design()

DESIGNS: dict[str, Design] = {
    one.name: one
    for one in (
        RULES,
        Design(
            name="lock-only",
            what="a lock is all there is: no licence that is given once, no look at the lease before the bytes",
            faults=1,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S1",
            licence_once=False,
            lease_at_the_gate=False,
        ),
        Design(
            name="blind-retry",
            what="no answer counts as not placed: sent again",
            faults=0,
            machines=1,
            breaks="S1",
            resolves=False,
        ),
        Design(
            name="no-fence",
            what="nobody looks at the lease before the bytes",
            faults=2,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            lease_at_the_gate=False,
        ),
        Design(
            name="granted-is-unsent",
            what="a licence found after a crash is taken for unused",
            faults=1,
            machines=1,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            granted_may_be_sent=False,
        ),
        Design(
            name="no-send-mark",
            what="nothing is written before the bytes, and no mark still proves that none left",
            faults=1,
            machines=1,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            send_mark=False,
        ),
        Design(
            name="redis-proof",
            what="no claim in Redis is taken as proof that nothing was sent",
            faults=2,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            redis_proves_nothing=False,
        ),
        Design(
            name="no-restamp",
            what="a licence keeps the name of the machine that gave it",
            faults=2,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            stamps=False,
        ),
        Design(
            name="exit-before-licence",
            what="an exit leaves before SQL has its licence, and the machine loses its power",
            faults=1,
            machines=1,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S2",
            exit_licence_first=False,
            reboot_doubts=False,
        ),
        Design(
            name="stop-not-latched",
            what="the lowest price since the BUY is kept in memory only",
            faults=1,
            machines=1,
            lots=1,
            with_user=False,
            venue_fails=False,
            breaks="S3",
            latches=False,
        ),
        Design(
            name="wish-in-redis-only",
            what="a STOP is told to Redis and to nobody else",
            faults=1,
            machines=1,
            breaks="S4",
            wish_in_sql=False,
        ),
        Design(
            name="id-per-slot",
            what="all attempts share one order id, at a venue that refuses an id it has seen",
            faults=0,
            machines=1,
            enforced=True,
            with_user=False,
            breaks="S4",
            id_per_attempt=False,
        ),
        Design(
            name="stop-takes-no-licence",
            what="STOP before the BUY writes `stopped` and leaves the licence to buy where it is",
            faults=0,
            machines=1,
            breaks="S4",
            stop_takes_licence=False,
        ),
    )
}
