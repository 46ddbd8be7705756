"""Decides whether the candidate becomes champion, writes the decision to the ledger and shows it as an alias in MLflow."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.promote import challenge
from attrloop.components.promote.gate import judge
from attrloop.components.promote.ledger import Entry, Ledger, Verdict
from attrloop.components.run.artifact import Artifact, read_manifest
from attrloop.components.run.reporting import figure, reports, reused
from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace
from attrloop.components.storage.files import write_atomic
from attrloop.components.storage.store import open_store
from attrloop.components.tracking.code import actor, git_sha
from attrloop.components.tracking.names import CHAMPION
from attrloop.components.tracking.server import connect, explained, resolve_uri, runs_folder, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

RESULT = "promote/result.json"
_CLASHES = 10  # of promoters that set the alias at the same moment
log = logging.getLogger(__name__)


@reports("promote")
def promote(workspace: str, state_json: str) -> str:
    """Judges the registered candidate against the champion and acts on it.

    The same version under the same gate is judged once: a repeated call finds the entry that is there.

    Args:
        workspace: URI of the run's workspace; reads `register/result.json` and the predictions on test, writes `promote/result.json`. The ledger is in the
            runs folder, the workspace's parent.
        state_json: the loop's final `LoopState`.

    Returns:
        `promoted`; `first` when there was no champion and the candidate became it; or `refused`.

    Raises:
        InputError: nothing registered, no predictions on test.
        AttrloopError: the tracking server is away, the model's version is not on it.
    """
    began = time.monotonic()
    ws, state = Workspace.open(workspace), LoopState.model_validate_json(state_json)
    if not ws.store.exists("register/result.json"):
        raise fail(f"{ws.store.root}/register", "no registered version", "Run register before promote")
    registered = json.loads(ws.store.read("register/result.json"))
    uri = resolve_uri(ws.config, ws.store.root)
    stage = Artifact(ws.store, "promote", _made_from(ws, state, uri))
    if stage.manifest is not None:
        reused(f"the decision on version {registered['model_version']}")
        return str(json.loads(ws.store.read(RESULT))["action"])
    client = connect(uri)
    name, version = registered["model"], str(registered["model_version"])
    with explained(uri):
        _require(client, uri, name, version)
        ledger = Ledger(open_store(runs_folder(ws.store.root)), name)
        gate = digest(ws.config.promote.model_dump(mode="json"), ws.data_digest)
        entry = settle(
            ledger,
            client,
            version,
            gate,
            lambda champion: _verdict(ws, state, client, uri, name, champion),
            ws.data_digest,
        )
        client.set_model_version_tag(name, version, "promotion", f"{entry.action}: {entry.reason}"[:1000])
        result = _result(entry, show(ledger, client))
    write_atomic(stage.folder / "result.json", json.dumps(result, indent=1).encode())
    stage.finish(
        "promotion",
        {"promoted": float(entry.action == "promote"), "seconds": time.monotonic() - began},
        ["result.json"],
    )
    figure("verdict", str(result["action"]))
    log.info("%s: %s", result["action"], entry.reason)
    return str(result["action"])


def rollback(workspace: str, to: str = "", reason: str = "", who: str = "") -> Entry:
    """Makes an earlier version champion again, or one that the gate refused, by another entry in the ledger.

    Args:
        workspace: URI of any workspace in the runs folder; its config says which model and which tracking server.
        to: number of a registered version; "" for the one that the present champion replaced.
        reason: why, for the record.
        who: the person; "" for the system's user.

    Raises:
        AttrloopError: there is nothing to go back to, no such version, the tracking server is away.
    """
    ws = Workspace.open(workspace)
    uri, name = resolve_uri(ws.config, ws.store.root), ws.config.tracking.model_name
    ledger, client = Ledger(open_store(runs_folder(ws.store.root)), name), connect(uri)
    with explained(uri):
        entry = _roll_back(ledger, client, uri, to, reason, who or actor())
        show(ledger, client)
    return entry


def settle(
    ledger: Ledger,
    client: "MlflowClient",
    version: str,
    gate: str,
    verdict_on: Callable[[str | None], Verdict],
    data_digest: str = "",
) -> Entry:
    """Judges a version against the champion and records the outcome, as one step among concurrent promoters: a promoter whose entry comes second has judged
    against a champion that may be gone, and judges again.

    Args:
        version: the candidate.
        gate: digest of what decides the verdict besides the two models; the same version is judged once under it.
        verdict_on: judges the candidate against a champion's version, None for none.
    """
    while True:
        entries = ledger.entries()
        head = entries[-1] if entries else None
        champion = challenge.champion(client, ledger.model, head)
        known = [
            e
            for e in entries
            if (e.version, e.gate) == (version, gate) and (e.action == "promote" or e.before == champion)
        ]
        if known or (champion == version and head):
            return known[-1] if known else next(entry for entry in reversed(entries) if entry.after == version)
        verdict = verdict_on(champion)
        entry = _entry(
            ledger,
            head,
            "promote" if verdict.passed else "refuse",
            version,
            champion,
            version if verdict.passed else champion,
            verdict.reason,
        )
        entry = entry.model_copy(update={"verdict": verdict, "gate": gate, "data_digest": data_digest})
        if ledger.append(entry):
            return entry


def show(ledger: Ledger, client: "MlflowClient") -> str | None:
    """Sets the alias `champion` to what the ledger's head says, until the head is still the same afterwards: of several who do so at once, the last to
    read sees the newest head. Returns the champion."""
    from mlflow.exceptions import MlflowException

    clashes = 0
    while True:
        head = ledger.head()
        champion = head.after if head else None
        if champion:
            try:
                client.set_registered_model_alias(ledger.model, CHAMPION, champion)
            except (
                MlflowException
            ) as error:  # of two that make an alias at the same moment, MLflow's database refuses one
                clashes += 1
                if error.error_code != "BAD_REQUEST" or clashes > _CLASHES:
                    raise
                continue
        elif head and challenge.alias(client, ledger.model):
            client.delete_registered_model_alias(ledger.model, CHAMPION)
        if ledger.head() == head:
            return champion


def _roll_back(ledger: Ledger, client: "MlflowClient", uri: str, to: str, reason: str, who: str) -> Entry:
    while True:
        entries = ledger.entries()
        head = entries[-1] if entries else None
        champion = challenge.champion(client, ledger.model, head)
        if not champion and not to:
            raise AttrloopError(
                f"there is no champion of {ledger.model} to roll back from: name the version to make champion"
            )
        target = to or next(
            (e.before for e in reversed(entries) if e.action == "promote" and e.after == champion), None
        )
        if not target:
            raise AttrloopError(
                f"version {champion} of {ledger.model} replaced no other: name the version to go back to"
            )
        if head and target == champion:
            return head
        _require(client, uri, ledger.model, target)
        entry = _entry(ledger, head, "rollback", target, champion, target, reason or "rolled back by hand").model_copy(
            update={"actor": who}
        )
        if ledger.append(entry):
            return entry


def _entry(
    ledger: Ledger, head: Entry | None, action: str, version: str, before: str | None, after: str | None, reason: str
) -> Entry:
    return Entry.model_validate(
        {
            "seq": head.seq + 1 if head else 1,
            "model": ledger.model,
            "action": action,
            "version": version,
            "from": before,
            "to": after,
            "reason": reason,
            "git_sha": git_sha(),
            "actor": actor(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def _require(client: "MlflowClient", uri: str, name: str, version: str) -> None:
    if not challenge.exists(client, name, version):
        raise AttrloopError(
            f"there is no version {version} of {name} at {shown_uri(uri)}: register it there, or set another tracking.uri"
        )


def _made_from(ws: Workspace, state: LoopState, uri: str) -> dict[str, str]:
    found = {path: read_manifest(ws.store, path) for path in ("register", f"evaluate/test/{state.best.stage}")}
    settings = {"config": ws.config.digest("promote"), "uri": digest(uri), "state": digest(state.model_dump_json())}
    return {**{path: manifest.digest for path, manifest in found.items() if manifest}, **settings}


def _verdict(
    ws: Workspace, state: LoopState, client: "MlflowClient", uri: str, name: str, champion: str | None
) -> Verdict:
    candidate = challenge.predictions(ws, f"evaluate/test/{state.best.stage}")
    if champion is None:
        against = challenge.stand_in(state)
        other: pl.DataFrame = challenge.predictions(ws, f"evaluate/test/{against}")
    else:
        against = f"version {champion}"
        other = challenge.champion_predictions(ws, state, client, uri, name, champion)
    return judge(candidate, other, against, ws.schema.verticals, ws.config.promote, ws.config.seed)


def _result(entry: Entry, champion: str | None) -> dict[str, object]:
    macro = entry.verdict.macro if entry.verdict else None
    action = "refused" if entry.action == "refuse" else "promoted" if entry.before else "first"
    return {
        "action": action,
        "version": int(entry.version),
        "champion": int(champion) if champion else None,
        "reason": entry.reason,
        "against": entry.verdict.against if entry.verdict else None,
        "macro": {"delta": macro.delta, "interval": [macro.low, macro.high], "count": macro.count} if macro else None,
        "ledger_entry": entry.seq,
    }
