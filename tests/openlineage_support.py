"""Whether an event is valid by the schemas of OpenLineage, which stand in `tests/data/openlineage`."""

from __future__ import annotations

import functools
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parent / "data" / "openlineage"


@functools.cache
def schemas() -> Registry[Any]:
    """The specification's own schemas, by their `$id`."""
    documents = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    return Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in documents)


@functools.cache
def formats() -> FormatChecker:
    """The formats that the schemas name; jsonschema alone leaves `uri` and `date-time` unchecked."""
    checker = FormatChecker()
    checker.checks("date-time", raises=ValueError)(lambda text: datetime.fromisoformat(text).tzinfo is not None)
    checker.checks("uri")(
        lambda text: bool(re.fullmatch(r"[a-z][a-z0-9+.-]*:[\w\-.~:/?#\[\]@!$&'()*+,;=%]+", text, re.ASCII))
    )
    return checker


def validate(instance: Any, schema: str) -> None:
    """Fail where `instance` is not what the schema at this address demands, formats included."""
    validator = Draft202012Validator({"$ref": schema}, registry=schemas(), format_checker=formats())
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]
    assert not wrong, wrong


def check_event(event: dict[str, Any]) -> None:
    """A run event by the schema it names, each of its facets by theirs, none with a field that its schema lacks."""
    assert event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
    validate(event, event["schemaURL"])
    validate(event, event["schemaURL"].partition("#")[0])
    assert event["eventType"] in {"START", "COMPLETE", "FAIL"}
    assert event["job"]["namespace"] and event["job"]["name"]
    datasets = [*event["inputs"], *event["outputs"]]
    assert all(dataset["namespace"] and dataset["name"] for dataset in datasets)
    groups = [event["run"]["facets"], event["job"]["facets"]]
    kinds = ("facets", "inputFacets", "outputFacets")
    groups += [dataset.get(kind, {}) for dataset in datasets for kind in kinds]
    for facets in groups:
        for key, facet in facets.items():
            check_facet(key, facet)


def check_facet(key: str, facet: dict[str, Any]) -> None:
    address, _, place = facet["_schemaURL"].partition("#")
    validate(facet, facet["_schemaURL"])
    document = schemas().contents(address)
    assert document["properties"] == {key: {"$ref": f"#{place}"}}, f"{key} is not the key of this facet"
    parts = document["$defs"][place.rpartition("/")[2]]["allOf"]
    known = {name for part in parts for name in part.get("properties", {})}
    assert set(facet) <= known | {"_producer", "_schemaURL"}, "a field that the specification does not have"
