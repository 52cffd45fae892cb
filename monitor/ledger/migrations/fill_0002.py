"""Fills the tables of schema 0002 from what a ledger of schema 0001 holds. Frozen: it knows no class of today.

The audit trail begins with what the tables tell of the time before it, so that it covers every decision and place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

_KEPT = {
    "misalignment_rise",
    "misalignment_rise_by_category",
    "misalignment_ratio",
    "incoherence_rise",
    "alignment_score",
    "coherence_score",
    "relevance_score",
    "subspace_projection",
    "logit_change",
}
_EXAMINED = """
    SELECT e.ordinal, e.digest, e.name, e.parent, e.remedy, e.decision, r.ordinal AS review_ordinal, r.id AS review,
        r.digest AS arrival, r.started, r.finished, p.place, p.begun, p.finished AS placed
    FROM examinations e JOIN reviews r ON r.ordinal = e.review_ordinal
    LEFT JOIN placements p ON p.examination_ordinal = e.ordinal
    ORDER BY e.review_ordinal, e.ordinal
"""


def fill(connection: sa.Connection) -> None:
    """Fill ``adapters``, ``names``, ``measures`` and ``audit`` within the migration's transaction."""
    examined = [dict(row) for row in connection.execute(sa.text(_EXAMINED)).mappings()]
    if not examined:
        return
    _insert(connection, "adapters", list(_adapters(examined)))
    _insert(connection, "names", list(_names(examined)))
    _insert(connection, "measures", list(_measures(connection, examined)))
    _insert(connection, "audit", list(_audit(examined)))


def _insert(connection: sa.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        columns = ", ".join(rows[0])
        values = ", ".join(f":{column}" for column in rows[0])
        connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), rows)  # noqa: S608 - ours


def _adapters(examined: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a digest: as it was met first, where it was put last, by what it was examined last."""
    by_digest: dict[str, list[dict[str, Any]]] = {}
    for row in examined:
        by_digest.setdefault(row["digest"], []).append(row)
    for digest, rows in by_digest.items():
        first = rows[0]
        placed = max((row for row in rows if row["placed"]), key=lambda row: str(row["placed"]), default=None)
        done = max((row for row in rows if row["finished"]), key=lambda row: str(row["finished"]), default=None)
        yield {
            "digest": digest,
            "name": first["name"],
            "parent": first["parent"],
            "parent_source": None if not first["parent"] else "remedy" if first["remedy"] else "declared",
            "arrival": first["arrival"],
            "seen": first["started"],
            "place": placed and placed["place"],
            "placed": placed and placed["placed"],
            "review": done and done["review"],
        }


def _names(examined: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row whenever a name came to stand for other bytes."""
    last: dict[str, str] = {}
    for row in examined:
        if row["digest"] == row["arrival"] and last.get(row["name"]) != row["digest"]:
            last[row["name"]] = row["digest"]
            yield {"name": row["name"], "digest": row["digest"], "source": "earlier", "at": row["started"]}


def _measures(connection: sa.Connection, examined: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The numbers of finished reviews; of a guard that looked in several versions, the last look counts."""
    looks: dict[int, dict[str, str]] = {}
    for number, guard, results in connection.execute(
        sa.text("SELECT examination_ordinal, guard, results FROM looks ORDER BY ordinal")
    ):
        looks.setdefault(number, {})[guard] = results
    for row in examined:
        for results in looks.get(row["ordinal"], {}).values() if row["finished"] else ():
            for result in json.loads(results):
                if result["kind"] != "finding" or result["measure"] not in _KEPT:
                    continue
                labels = result["labels"]
                value = _finite(result["value"])
                if value is None or set(labels) - {"modality", "category", "model"}:
                    continue
                yield {
                    "review_ordinal": row["review_ordinal"],
                    "digest": row["digest"],
                    "at": row["finished"],
                    "measure": result["measure"],
                    "modality": labels.get("modality", ""),
                    "category": labels.get("category", ""),
                    "model": labels.get("model", ""),
                    "value": value,
                    "low": _finite(result["low"]),
                    "high": _finite(result["high"]),
                    "n": result["n"],
                }


def _finite(value: Any) -> float | None:
    """Infinities are written as words in the JSON of results."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _audit(examined: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One record for every decision, intent and place, in their order, told at the migration's time."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    previous = "0" * 64
    for ordinal, (kind, row, told) in enumerate(_events(examined), start=1):
        payload = _canonical({"review": row["review"], "migrated": True, **told})
        whole = [ordinal, at, kind, row["digest"], payload, previous]
        digest = hashlib.sha256(_canonical(whole).encode()).hexdigest()
        yield {
            "ordinal": ordinal,
            "at": at,
            "kind": kind,
            "subject": row["digest"],
            "payload": payload,
            "previous": previous,
            "hash": digest,
        }
        previous = digest


def _events(examined: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for row in examined:
        if row["decision"]:
            yield "decided", row, {"decision": json.loads(row["decision"])}
    for row in sorted((row for row in examined if row["begun"]), key=lambda row: str(row["placed"] or row["begun"])):
        yield ("placed" if row["placed"] else "placing"), row, {"place": row["place"]}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
