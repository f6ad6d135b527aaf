----------------------------- MODULE Squareoff -----------------------------
(***************************************************************************)
(* One run: it buys once, and sells what it bought once, whatever happens. *)
(*                                                                         *)
(* Two workers on two machines share SQL; each has a spool that dies with  *)
(* its machine's power. The wire may lose an order, deliver it late, or    *)
(* lose the answer; the broker shows what it has. A worker may be killed,  *)
(* lose its machine's power, or stand still past its lease and wake.       *)
(*                                                                         *)
(* The same protocol is explored over the product's own rules by           *)
(* `make model`; this page is the protocol itself. In brackets: the code.  *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
    MaxFaults,          \* so many faults, at any moments
    LicenceOnce,        \* SQL gives a licence once      [adapters/licence.py, Records.license_entry]
    LeaseAtGate,        \* the lease is asked for before the bytes            [gateway.py]
    ResolveFirst,       \* no answer: look it up, do not send again           [chasing.py]
    SendMark,           \* one write to the spool before the bytes            [adapters/spool.py]
    GrantedMayBeSent,   \* another's licence counts as perhaps used           [recovery.taken_over]
    Restamp             \* who takes a licence over puts its own name on it   [recovery.taken_over]

Workers == {1, 2}
Slots == {"BUY", "SELL"}
None == 0

VARIABLES
    owner,      \* who holds the lease; None: it ran out or was given back
    pc,         \* what each worker is doing
    holds,      \* what each worker believes of a slot: "none", "licensed", "unknown", "over"
    licence,    \* SQL: of each slot, "none" or who it is stamped with
    doubted,    \* SQL: which slots may have been sent, by whom nobody knows; saved together with the new name
    settled,    \* SQL: which slots are over
    marks,      \* the spool of each machine: which slots have a send mark
    wire,       \* orders on their way: <<slot, number of the send>>
    book,       \* the broker's book: orders it has executed
    hidden,     \* orders that it has and does not show, beyond the quarantine
    sends,      \* how many sends of each slot there were
    faults

vars == <<owner, pc, holds, licence, doubted, settled, marks, wire, book, hidden, sends, faults>>

Init ==
    /\ owner = 1
    /\ pc = [w \in Workers |-> IF w = 1 THEN "works" ELSE "standby"]
    /\ holds = [w \in Workers |-> [s \in Slots |-> "none"]]
    /\ licence = [s \in Slots |-> None]
    /\ doubted = {}
    /\ settled = {}
    /\ marks = [w \in Workers |-> {}]
    /\ wire = {}
    /\ book = {}
    /\ hidden = {}
    /\ sends = [s \in Slots |-> 0]
    /\ faults = 0

Executed(s) == {o \in book : o[1] = s}
Shown(s) == Executed(s) \ hidden
OnTheWire(s) == {o \in wire : o[1] = s}
MayHold(w) == owner = w \/ ~LeaseAtGate

(* SELL is due when something was bought and nothing was sold yet. *)
Wanted(w, s) == s = "BUY" \/ ("BUY" \in settled /\ holds[w]["BUY"] = "over")

---------------------------------------------------------------------------
(* A worker that has the account                                           *)

Grant(w, s) ==                                     \* one SQL transaction
    /\ pc[w] = "works" /\ (owner = w \/ ~LicenceOnce)
    /\ Wanted(w, s) /\ holds[w][s] = "none"
    /\ IF LicenceOnce THEN licence[s] = None ELSE TRUE
    /\ licence' = [licence EXCEPT ![s] = w]
    /\ holds' = [holds EXCEPT ![w][s] = "licensed"]
    /\ UNCHANGED <<owner, pc, settled, marks, wire, book, hidden, sends, faults, doubted>>

Mark(w, s) ==                                      \* the last look, then one write(2)
    /\ pc[w] = "works" /\ holds[w][s] = "licensed" /\ owner = w
    /\ pc' = [pc EXCEPT ![w] = s]
    /\ marks' = IF SendMark THEN [marks EXCEPT ![w] = @ \cup {s}] ELSE marks
    /\ UNCHANGED <<owner, holds, licence, settled, wire, book, hidden, sends, faults, doubted>>

Bytes(w, s) ==                                     \* from here on it may be live
    /\ pc[w] = s /\ MayHold(w)
    /\ sends[s] < 3
    /\ wire' = wire \cup {<<s, sends[s] + 1>>}
    /\ sends' = [sends EXCEPT ![s] = @ + 1]
    /\ holds' = [holds EXCEPT ![w][s] = "unknown"]
    /\ pc' = [pc EXCEPT ![w] = "works"]
    /\ UNCHANGED <<owner, licence, settled, marks, book, hidden, faults, doubted>>

StandDown(w) ==                                    \* it has lost the account
    /\ pc[w] \in Slots \cup {"works"} /\ owner # w
    /\ pc' = [pc EXCEPT ![w] = "standby"]
    /\ holds' = [holds EXCEPT ![w] = [s \in Slots |-> "none"]]
    /\ UNCHANGED <<owner, licence, settled, marks, wire, book, hidden, sends, faults, doubted>>

Learn(w, s) ==                                     \* found in orders or trades
    /\ pc[w] = "works" /\ owner = w /\ holds[w][s] = "unknown"
    /\ Shown(s) # {}
    /\ holds' = [holds EXCEPT ![w][s] = "over"]
    /\ settled' = settled \cup {s}
    /\ UNCHANGED <<owner, pc, licence, marks, wire, book, hidden, sends, faults, doubted>>

(* Not seen over the whole quarantine. A BUY is given up: it is not sent again. A SELL is sent again only if the
   position still covers what our fills say: then it cannot have executed. *)
NotFound(w) ==
    /\ pc[w] = "works" /\ owner = w /\ holds[w]["SELL"] = "unknown"
    /\ Shown("SELL") = {} /\ OnTheWire("SELL") = {}
    /\ Executed("SELL") = {}
    /\ holds' = [holds EXCEPT ![w]["SELL"] = "licensed"]
    /\ licence' = IF Restamp THEN [licence EXCEPT !["SELL"] = w] ELSE licence
    /\ doubted' = doubted \ {"SELL"}
    /\ marks' = [v \in Workers |-> marks[v] \ {"SELL"}]
    /\ UNCHANGED <<owner, pc, settled, wire, book, hidden, sends, faults>>

SendAgain(w, s) ==                                 \* only in the design without ResolveFirst
    /\ ~ResolveFirst
    /\ pc[w] = "works" /\ owner = w /\ holds[w][s] = "unknown"
    /\ holds' = [holds EXCEPT ![w][s] = "licensed"]
    /\ UNCHANGED <<owner, pc, licence, settled, marks, wire, book, hidden, sends, faults, doubted>>

---------------------------------------------------------------------------
(* Recovery: the lease, then SQL and the spool of this machine             *)

Found(w, s) ==
    CASE s \in settled -> "over"
      [] s \in doubted -> "unknown"
      [] licence[s] = None -> "none"
      [] licence[s] = w /\ s \notin marks[w] -> "licensed"      \* ours, and no mark: it never left
      [] OTHER -> IF GrantedMayBeSent THEN "unknown" ELSE "licensed"

Take(w) ==
    /\ pc[w] = "standby" /\ owner = None
    /\ owner' = w
    /\ pc' = [pc EXCEPT ![w] = "works"]
    /\ holds' = [holds EXCEPT ![w] = [s \in Slots |-> Found(w, s)]]
    /\ licence' = [s \in Slots |-> IF Restamp /\ licence[s] # None /\ s \notin settled THEN w ELSE licence[s]]
    /\ doubted' = IF Restamp THEN doubted \cup {s \in Slots : Found(w, s) = "unknown"} ELSE doubted
    /\ UNCHANGED <<settled, marks, wire, book, hidden, sends, faults>>

---------------------------------------------------------------------------
(* The venue                                                               *)

Execute(o) ==
    /\ o \in wire
    /\ wire' = wire \ {o}
    /\ book' = book \cup {o}
    /\ UNCHANGED <<owner, pc, holds, licence, settled, marks, hidden, sends, faults, doubted>>

Show(o) ==
    /\ o \in hidden
    /\ hidden' = hidden \ {o}
    /\ UNCHANGED <<owner, pc, holds, licence, settled, marks, wire, book, sends, faults, doubted>>

---------------------------------------------------------------------------
(* Faults                                                                  *)

Fault == faults < MaxFaults /\ faults' = faults + 1

Forgets(w) ==
    /\ holds' = [holds EXCEPT ![w] = [s \in Slots |-> "none"]]
    /\ pc' = [pc EXCEPT ![w] = "standby"]
    /\ owner' = IF owner = w THEN None ELSE owner

Kill(w) ==
    /\ Fault /\ pc[w] # "standby" /\ Forgets(w)
    /\ UNCHANGED <<licence, settled, marks, wire, book, hidden, sends, doubted>>

PowerOff(w) ==                                     \* another boot: no licence is stamped with it any more
    /\ Fault /\ Forgets(w)
    /\ marks' = [marks EXCEPT ![w] = {}]
    /\ licence' = [s \in Slots |-> IF licence[s] = w THEN 3 ELSE licence[s]]
    /\ UNCHANGED <<settled, wire, book, hidden, sends, doubted>>

StandStill(w) ==                                   \* it wakes at any of its steps
    /\ Fault /\ owner = w
    /\ owner' = None
    /\ UNCHANGED <<pc, holds, licence, settled, marks, wire, book, hidden, sends, doubted>>

Lose(o) ==
    /\ Fault /\ o \in wire
    /\ wire' = wire \ {o}
    /\ UNCHANGED <<owner, pc, holds, licence, settled, marks, book, hidden, sends, doubted>>

Hide(o) ==
    /\ Fault /\ o \in wire /\ o[1] = "BUY"
    /\ wire' = wire \ {o}
    /\ book' = book \cup {o}
    /\ hidden' = hidden \cup {o}
    /\ UNCHANGED <<owner, pc, holds, licence, settled, marks, sends, doubted>>

---------------------------------------------------------------------------

Next ==
    \/ \E w \in Workers :
        \/ Take(w) \/ StandDown(w) \/ NotFound(w) \/ Kill(w) \/ PowerOff(w) \/ StandStill(w)
        \/ \E s \in Slots : Grant(w, s) \/ Mark(w, s) \/ Bytes(w, s) \/ Learn(w, s) \/ SendAgain(w, s)
    \/ \E o \in wire : Execute(o) \/ Lose(o) \/ Hide(o)
    \/ \E o \in hidden : Show(o)

Spec == Init /\ [][Next]_vars

---------------------------------------------------------------------------
(* The promises                                                            *)

S1_OneBuy == Cardinality(Executed("BUY")) <= 1
S2_OneSell == Cardinality(Executed("SELL")) <= Cardinality(Executed("BUY"))
S5_ProofOfFlat == "SELL" \in settled => Executed("SELL") # {}
S8_NothingHidden == \A s \in settled : Executed(s) # {}
=============================================================================
