"""Decides whether the candidate becomes champion, writes that to the ledger and shows it as an alias in MLflow."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.gold.left_out import recorded
from attrloop.components.gold.sampled import labelled_ids
from attrloop.components.promote.challenge import Challenge
from attrloop.components.promote.champion import alias, champion, exists
from attrloop.components.promote.ledger import Entry, Ledger, Verdict
from attrloop.components.promote.verdict import left_out_of_test, verdict_on
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.made_from import MadeFrom
from attrloop.components.run.manifest import has, intact
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.opening import open_store
from attrloop.components.tracking.code import actor, git_sha
from attrloop.components.tracking.names import CHAMPION
from attrloop.components.tracking.server import connect, explained, resolve_uri, runs_folder, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERSION = 1  # of the gate
_CLASHES = 10  # of promoters that set the alias at the same moment
log = logging.getLogger(__name__)


@reports("promote")
def promote(workspace: str, state_json: str) -> str:
    """Judges the registered candidate against the champion and acts on the verdict.

    The same version is judged once by the same gate: a repeated call finds the entry that exists.

    Args:
        workspace: URI of the run's workspace; reads `register/result.json` and the predictions on test, writes
            `promote/result.json`. The ledger is in the runs folder, the workspace's parent.
        state_json: the loop's final `LoopState`.

    Returns:
        `promoted`; `first` when there was no champion and the candidate became it; or `refused`.

    Raises:
        InputError: nothing is registered, or there are no predictions on test.
        AttrloopError: the tracking server is down, or does not hold the version.
    """
    began = time.monotonic()
    ws, state = Workspace.open(workspace), LoopState.model_validate_json(state_json)
    if not has(ws.store, layout.REGISTRATION):
        raise fail(f"{ws.store.root}/{layout.REGISTER}", "no registered version", "Run register before promote")
    registered = json.loads(intact(ws.store, layout.REGISTRATION).read_bytes())
    uri = resolve_uri(ws.config, ws.store.root)
    out = left_out_of_test(ws)
    artifact = begin(ws, state, uri)
    if artifact.manifest is not None:
        reused(f"the decision on version {registered['model_version']}")
        return str(json.loads(intact(ws.store, layout.PROMOTION).read_bytes())["action"])
    client = connect(uri)
    name, version = registered["model"], str(registered["model_version"])
    with explained(uri):
        _require(client, uri, name, version)
        ledger, challenge = _ledger(ws, name), Challenge(ws, state, client, uri)
        gate = digest(ws.config.promote.model_dump(mode="json"), ws.data_digest, *(row.listing for row in out))
        entry = settle(
            ledger,
            client,
            version,
            gate=gate,
            verdict_on=lambda champion: verdict_on(challenge, champion),
            data_digest=ws.data_digest,
        )
        client.set_model_version_tag(name, version, "promotion", f"{entry.action}: {entry.reason}"[:1000])
        result = _result(entry, show(ledger, client))
    write_atomic(artifact.folder / layout.RESULT, json.dumps(result, indent=1).encode())
    counts = {"promoted": float(entry.action == "promote"), "seconds": time.monotonic() - began}
    artifact.finish("promotion", counts, [layout.RESULT])
    figure("verdict", str(result["action"]))
    log.info("%s: %s", result["action"], entry.reason)
    return str(result["action"])


def rollback(workspace: str, to: str = "", reason: str = "", who: str = "") -> Entry:
    """Makes another version champion, by another entry in the ledger. The gate may have refused that version.

    Args:
        workspace: URI of any workspace in the runs folder; its config names the model and the tracking server.
        to: number of a registered version; "" for the one that the present champion replaced.
        reason: why, for the record.
        who: the person; "" for the system's user.

    Raises:
        AttrloopError: there is nothing to go back to, no such version, or the tracking server is down.
    """
    ws = Workspace.open(workspace)
    uri = resolve_uri(ws.config, ws.store.root)
    ledger, client = _ledger(ws, ws.config.tracking.model_name), connect(uri)
    with explained(uri):
        while True:
            head = ledger.head()
            before = champion(client, ledger.model, head)
            target = to or _replaced_by(before, ledger)
            if head and target == before:
                entry = head
                break
            _require(client, uri, ledger.model, target)
            entry = _entry(
                ledger,
                head,
                action="rollback",
                version=target,
                before=before,
                after=target,
                reason=reason or "rolled back by hand",
                actor=who or actor(),
            )
            if ledger.append(entry):
                break
        show(ledger, client)
    return entry


def settle(
    ledger: Ledger,
    client: "MlflowClient",
    version: str,
    *,
    gate: str,
    verdict_on: Callable[[str | None], Verdict],
    data_digest: str = "",
) -> Entry:
    """Judges a version against the champion and records the outcome, as one step among concurrent promoters.

    A promoter whose entry comes second has judged against a champion that may be gone, and judges again.

    Args:
        ledger: the model's ledger.
        client: an MLflow client.
        version: the candidate.
        gate: digest of what decides the verdict besides the two models. A version is judged once by the same gate.
        verdict_on: judges the candidate against a champion's version, None for none.
        data_digest: digest of the data, for the record.
    """
    while True:
        entries = ledger.entries()
        head = entries[-1] if entries else None
        before = champion(client, ledger.model, head)
        known = [
            e
            for e in entries
            if (e.version, e.gate) == (version, gate) and (e.action == "promote" or e.before == before)
        ]
        if known or (before == version and head):
            return known[-1] if known else next(entry for entry in reversed(entries) if entry.after == version)
        verdict = verdict_on(before)
        entry = _entry(
            ledger,
            head,
            action="promote" if verdict.passed else "refuse",
            version=version,
            before=before,
            after=version if verdict.passed else before,
            reason=verdict.reason,
            verdict=verdict,
            gate=gate,
            data_digest=data_digest,
        )
        if ledger.append(entry):
            return entry


def show(ledger: Ledger, client: "MlflowClient") -> str | None:
    """Sets the alias `champion` to what the head of the ledger says, and returns the champion.

    It repeats that until the head is the same afterwards. When several processes do so at once, the last one to read
    sees the newest head.
    """
    from mlflow.exceptions import MlflowException

    clashes = 0
    while True:
        head = ledger.head()
        current = head.after if head else None
        if current:
            try:
                client.set_registered_model_alias(ledger.model, CHAMPION, current)
            except MlflowException as error:
                # When two processes create an alias at the same moment, MLflow's database refuses one.
                clashes += 1
                if error.error_code != "BAD_REQUEST" or clashes > _CLASHES:
                    raise
                continue
        elif head and alias(client, ledger.model):
            client.delete_registered_model_alias(ledger.model, CHAMPION)
        if ledger.head() == head:
            return current


def _replaced_by(version: str | None, ledger: Ledger) -> str:
    """The version that the champion replaced."""
    if not version:
        what = f"there is no champion of {ledger.model} to roll back from"
        raise AttrloopError(f"{what}: name the version to make champion")
    entries = reversed(ledger.entries())
    replaced = next((e.before for e in entries if e.action == "promote" and e.after == version), None)
    if not replaced:
        what = f"version {version} of {ledger.model} replaced no other"
        raise AttrloopError(f"{what}: name the version to go back to")
    return replaced


def _entry(ledger: Ledger, head: Entry | None, **fields: Any) -> Entry:
    """The entry after the head of the ledger."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    common = {"seq": head.seq + 1 if head else 1, "model": ledger.model, "git_sha": git_sha(), "time": now}
    return Entry.model_validate({"actor": actor(), **common, **fields})


def _ledger(ws: Workspace, name: str) -> Ledger:
    return Ledger(open_store(runs_folder(ws.store.root)), name)


def _require(client: "MlflowClient", uri: str, name: str, version: str) -> None:
    if not exists(client, name, version):
        what = f"there is no version {version} of {name} at {shown_uri(uri)}"
        raise AttrloopError(f"{what}: register it there, or set another tracking.uri")


def begin(ws: Workspace, state: LoopState, uri: str) -> Artifact:
    """Opens the artifact of a promotion.

    Raises:
        InputError: nothing is registered, or a stage that is compared was not evaluated on test.
    """
    # Where there is no test gold, nothing was evaluated on it.
    gold = labelled_ids(ws, "test") - {row.listing for row in recorded(ws.store)}
    stages = {state.best.stage, state.reference.stage} if gold else ()
    evaluated = {f"test/{name}": layout.evaluation("test", name) for name in stages}
    made_from = MadeFrom(
        VERSION,
        {"registration": layout.REGISTER, "left out": layout.LEFT_OUT, **evaluated},
        config=("promote",),
        reads=("catalogue",),
        extra={"uri": digest(uri), "state": digest(state.model_dump_json())},
    )
    return Artifact.begin(ws, layout.PROMOTE, made_from)


def _result(entry: Entry, champion: str | None) -> dict[str, object]:
    verdict = entry.verdict
    macro = verdict.macro if verdict else None
    action = "refused" if entry.action == "refuse" else "promoted" if entry.before else "first"
    return {
        "action": action,
        "version": int(entry.version),
        "champion": int(champion) if champion else None,
        "reason": entry.reason,
        "against": verdict.against if verdict else None,
        "macro": {"delta": macro.delta, "interval": [macro.low, macro.high], "count": macro.count} if macro else None,
        "left_out": verdict.left_out.model_dump(mode="json") if verdict and verdict.left_out else None,
        "unknown": list(verdict.unknown) if verdict else [],
        "ledger_entry": entry.seq,
    }
