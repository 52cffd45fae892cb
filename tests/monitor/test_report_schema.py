"""The published schema and the model that writes ``review.json`` are one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from report_reviews import defective, exhibit, found, harmful, mended, review

from monitor.report.schema import review_schema, review_schema_text
from monitor.review import RemedyFailure, Review

COMMITTED = Path(__file__).parents[2] / "docs" / "review.schema.json"


def misfits(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str = "$") -> list[str]:
    """A validator for just the keywords that our schema uses."""
    if "$ref" in schema:
        return misfits(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, place)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return (
            [] if any(not misfits(value, choice, root, place) for choice in choices) else [f"{place}: no choice fits"]
        )
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return [f"{place}: {value!r}"]
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "null": type(None)}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{place}: {value!r} is no {schema['type']}"]
    wrong = []
    if isinstance(value, dict) and "properties" in schema:
        wrong += [f"{place}: {key} missing" for key in schema.get("required", []) if key not in value]
        wrong += [f"{place}: {key} unknown" for key in value if key not in schema["properties"]]
        for key, item in value.items():
            wrong += misfits(item, schema["properties"].get(key, {}), root, f"{place}.{key}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            wrong += misfits(item, schema.get("items", {}), root, f"{place}[{number}]")
    return wrong


def written() -> Review:
    harm = harmful()
    harm = harm.model_copy(update={"results": [*harm.results, exhibit(), *defective().results]})
    return review(harm, mended(harm), failures=(RemedyFailure(remedy="project", digest=harm.digest, reason="none"),))


def test_the_committed_schema_is_the_models() -> None:
    cause = "write review_schema_text() to docs/review.schema.json; docs/report.md has the command"
    assert COMMITTED.read_text(encoding="utf-8") == review_schema_text(), cause


def test_the_schema_names_itself() -> None:
    schema = review_schema()
    assert schema["$id"] == "urn:alignwatch:review:1"
    assert schema["title"] == "Alignwatch review"


def test_a_written_review_fits_the_schema() -> None:
    record = json.loads(written().model_dump_json())
    assert misfits(record, review_schema(), review_schema()) == []


def test_an_infinite_e_value_fits_the_schema_and_is_read_back() -> None:
    endless = found("misalignment_alarm_e_value", float("inf"), modality="text")
    text = review(harmful([endless])).model_dump_json()
    assert '"Infinity"' in text
    assert misfits(json.loads(text), review_schema(), review_schema()) == []
    assert Review.model_validate_json(text).arrival.results[0] == endless


def test_an_unknown_key_or_a_missing_one_does_not_fit() -> None:
    record = json.loads(written().model_dump_json())
    schema = review_schema()
    assert misfits({**record, "surprise": 1}, schema, schema)
    assert misfits({key: record[key] for key in record if key != "context"}, schema, schema)
