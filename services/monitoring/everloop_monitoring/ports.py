"""What monitoring stores: projections in the open unit of work, and a reader for the endpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from everloop_monitoring.domain.alert_defaults import LabelCounts, LabelPace
from everloop_monitoring.domain.alerts import OpenAlert
from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.letter_plans import IngestRequest
from everloop_monitoring.domain.letters import ListedLetter
from everloop_monitoring.domain.pending_sign_in import PendingSignIn
from everloop_monitoring.domain.shown import ShownRecords
from everloop_monitoring.domain.silences import Silence
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState
from everloop_monitoring.domain.timeline import TimelineEntry
from everloop_monitoring.domain.watch import Watch
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import AlertRaised, DeadLetterSent

W = TypeVar("W", bound=Watch)
IdKind = Literal["event", "prediction", "outcome", "dead_letter", "version"]


IdsByKind = Mapping[tuple[str, IdKind], Collection[str]]
"""Ids in a loop's records, by loop and kind; the total counts each id once."""


class Projections(Protocol):
    """What monitoring writes, inside the open unit of work: visible to later calls, gone if it rolls back.

    Each method may await the database, is called once or twice a batch, and is idempotent by id. Raises
    Unavailable while the database cannot be reached or is full.
    """

    async def count_ids(self, ids: IdsByKind) -> dict[tuple[str, IdKind], tuple[int, int]]:
        """Count the ids that are new; the totals before and after, where they grew, by loop and kind."""

    async def load_evaluation(
        self, loop: str, prediction_ids: Iterable[str]
    ) -> tuple[EvaluationState, dict[str, CountedOutcome]]:
        """The loop's state, new where there is none, and the outcomes of these predictions as counted before."""

    async def save_evaluation(self, loop: str, evaluation: BatchEvaluation, champion: str, at: datetime) -> None:
        """Store what a batch changed and added, under this champion at this time."""

    async def load_watches(self, loop: str, kinds: Sequence[type[Watch]], spec: LoopSpec) -> list[Watch]:
        """The loop's watches of these kinds, new where there are none, as they are for this spec.

        Until the unit of work ends, no other replica loads them.
        """

    async def save_watches(self, loop: str, watches: Sequence[Watch]) -> None:
        """Store the states of these watches."""

    async def add_shown(self, shown: ShownRecords) -> None:
        """Keep what is only shown, of each loop the latest; each prediction and version once."""

    async def add_timeline_entries(self, entries: Sequence[TimelineEntry]) -> None:
        """Add entries to the timeline, each id once."""


class AlertStore(Protocol):
    """The open alerts, what receivers have to be told, and the silences, inside the open unit of work.

    Raises Unavailable as `Projections`.
    """

    async def load_alerts(self, loops: Collection[str]) -> dict[str, list[OpenAlert]]:
        """The open alerts of these loops, where there are any; until the unit of work ends, nobody else loads them."""

    async def save_alerts(self, loop: str, changed: Sequence[OpenAlert], ended: Collection[str]) -> None:
        """Store these alerts, and remove those with the names in `ended`."""

    async def queue_alerts(self, events: Sequence[AlertRaised]) -> None:
        """Add to what receivers are told, in this order."""

    async def count_labels(self, loops: Collection[str]) -> dict[str, LabelCounts]:
        """How many predictions and outcomes of these loops are counted; a loop without any is absent."""

    async def load_paces(self, loops: Collection[str]) -> dict[str, LabelPace]:
        """How labels of these loops come; a loop that nobody has looked at is absent."""

    async def save_paces(self, paces: Mapping[str, LabelPace]) -> None:
        """Store how labels come, by loop."""

    async def load_silences(self, loops: Collection[str], now: datetime) -> list[Silence]:
        """The silences of these loops that have not ended."""

    async def add_silence(self, silence: Silence) -> None:
        """Store a silence."""

    async def end_silence(self, loop: str, id: str) -> bool:
        """Remove a silence of a loop; False where there is none."""


class Letters(Protocol):
    """The list of dead letters inside the open unit of work; each method is idempotent by id."""

    async def add_letters(self, letters: Sequence[ListedLetter]) -> None:
        """Add letters, and drop the oldest beyond the limits."""

    async def add_sent(self, sent: Sequence[DeadLetterSent]) -> None:
        """Remember that letters were sent again, whether or not they are in the list yet."""

    async def has_sent(self, sent: DeadLetterSent) -> bool:
        """Whether exactly this was sent before."""


class LetterReader(Protocol):
    """What the endpoints read about dead letters, as committed."""

    async def letters(
        self, service: str | None, loop: str | None, since: datetime | None, limit: int
    ) -> list[tuple[ListedLetter, list[DeadLetterSent]]]:
        """The last `limit` that match, newest first, each with when it was sent again, oldest first."""

    async def letter(self, id: str) -> tuple[ListedLetter, list[DeadLetterSent]]:
        """One of the list. Raises LetterNotFound."""

    async def read(self, letter: ListedLetter) -> DeadLetter:
        """The letter with its record, from its topic. Raises LetterNotFound where that does not keep it any more."""


class Ingest(Protocol):
    """Takes the records of dead letters again."""

    async def send(self, request: IngestRequest, authorization: str | None) -> list[str]:
        """The ids of what the record became, once the broker has it; none where a source takes nothing from it.

        `authorization` is the header of whoever sends the letter, whom ingest checks again, or where they may not
        publish by themselves, monitoring's own. The same request may be
        sent again. Raises LetterRejected with ingest's reason, NotPermitted, or Unavailable, and then the record may
        have arrived all the same.
        """


class Redeemed(NamedTuple):
    """What the provider gives for a code: the token for requests, and whom its ID token names."""

    access_token: str
    subject: str


class SignInProvider(Protocol):
    """An OIDC provider at which browsers sign in."""

    issuer: str

    async def address(self, pending: PendingSignIn) -> str:
        """Where the browser goes to sign in; raises Unavailable."""

    async def redeem(self, code: str, pending: PendingSignIn) -> Redeemed:
        """The tokens for the code that the browser came back with, once; raises SignInFailed or Unavailable."""


Verdict = Literal["approve", "reject", "promote"]


class Registry(Protocol):
    """Decides about candidates."""

    async def say(self, verdict: Verdict, loop: str, body: Mapping[str, Any], authorization: str | None) -> None:
        """Give what somebody says about a candidate to the registry, which checks them again.

        Raises VerdictRefused with the registry's reason, NotPermitted, or Unavailable, and then it may have been
        decided all the same.
        """


class MonitoringReader(Protocol):
    """What the endpoints read, as committed; every answer is ready for JSON."""

    async def totals(self, loop: str) -> dict[str, int]:
        """Distinct ids by kind of id and kind of timeline entry; what never occurred is absent."""

    async def evaluation_state(self, loop: str) -> EvaluationState | None:
        """The loop's state after the last committed outcome, None before the first."""

    async def watch(self, loop: str, kind: type[W]) -> W | None:
        """A watch after the last committed record, None before the first."""

    async def lines(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """Sums by line, the last `limit` in order of first appearance."""

    async def timeline_entries(self, loop: str, kinds: Sequence[str] | None, limit: int) -> list[TimelineEntry]:
        """The last `limit`, oldest first; `kinds` None for all."""

    async def open_alerts(self, loop: str) -> list[OpenAlert]:
        """The alerts that are pending or fire, by name."""

    async def silences(self, loop: str, now: datetime) -> list[Silence]:
        """The silences that have not ended, the one that ends first before the others."""

    async def series(self, loop: str, limit: int) -> list[dict[str, Any]]:
        """The last `limit` points of the curves, oldest first."""

    async def latest_predictions(self, loop: str, limit: int) -> list[tuple[dict[str, Any], Scalar | None]]:
        """The last `limit` predictions that are kept, newest first, each with its label where that is known."""

    async def made_by(self, loop: str, version: str) -> list[dict[str, Any]]:
        """How many predictions a version made, by role: `role`, `predictions`, and the times of `first` and `last`."""

    async def importances(self, loop: str, limit: int) -> list[tuple[str, dict[str, float]]]:
        """The last `limit` versions whose importance is kept, newest first, with it."""
