"""The JSON Schema of ``review.json``, as ``docs/review.schema.json`` holds it."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import FloatSchema

from monitor.review import Review

SCHEMA_ID: Final = "urn:alignwatch:review:1"
"""Names the schema and its version; a URN, because a schema that is fetched can be changed."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Says that a number may be written as a word: JSON has no infinity, and an e-value can reach it."""

    def float_schema(self, schema: FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["Infinity", "-Infinity", "NaN"]}]}


def review_schema() -> dict[str, Any]:
    """The schema of a written review, made from the pydantic model."""
    schema = Review.model_json_schema(mode="serialization", schema_generator=_Generator)
    return {"$schema": _DIALECT, "$id": SCHEMA_ID, **schema, "title": "Alignwatch review"}


def review_schema_text() -> str:
    """The schema as it is committed in ``docs/review.schema.json``."""
    return json.dumps(review_schema(), indent=2, ensure_ascii=False) + "\n"
