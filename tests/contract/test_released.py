"""What was promised to the clients of the released document still holds."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.contract.documents import COMPLETE, RELEASED, Json, operations, read
from tests.contract.linters import breaking_changes

_RENEW = "/vms/{vm_uuid}/ngt/renew"
_TEXT: Json = {"type": "string", "maxLength": 10}


def _schema(document: Json, name: str) -> Json:
    schema: Json = document["components"]["schemas"][name]
    return schema


def _take_an_operation_away(document: Json) -> None:
    del document["paths"]["/jobs/{job_id}/retry"]


def _take_a_member_of_an_answer_away(document: Json) -> None:
    del _schema(document, "Job")["properties"]["cvm"]


def _let_a_member_be_absent(document: Json) -> None:
    _schema(document, "Job")["required"].remove("message")


def _ask_for_more(document: Json) -> None:
    _schema(document, "RenewRequest")["required"] = ["change_number"]


def _take_less(document: Json) -> None:
    _schema(document, "RenewRequest")["properties"]["correlation_id"]["maxLength"] = 10


def _name_an_operation_anew(document: Json) -> None:
    document["paths"]["/jobs"]["get"]["operationId"] = "findJobs"


def _take_a_parameter_away(document: Json) -> None:
    document["paths"]["/jobs"]["get"]["parameters"].pop()


def _take_a_way_to_log_in_away(document: Json) -> None:
    document["paths"][_RENEW]["post"]["security"].pop()


def _take_a_webhook_away(document: Json) -> None:
    del document["webhooks"]["webhook.test"]


def _add_what_may_be_added(document: Json) -> None:
    _schema(document, "Job")["properties"]["more"] = _TEXT
    _schema(document, "Job")["required"].append("more")
    _schema(document, "RenewRequest")["properties"]["more"] = _TEXT
    listing = document["paths"]["/jobs"]["get"]
    listing["parameters"].append({"name": "more", "in": "query", "required": False, "schema": _TEXT})
    listing["responses"]["418"] = {"description": "I'm a teapot"}
    document["paths"]["/more"] = {"get": {**listing, "operationId": "listMore"}}
    document["webhooks"]["more"] = {"post": {**document["webhooks"]["webhook.test"]["post"], "operationId": "onMore"}}
    document["info"]["description"] = "Other words."


def _changed(tmp_path: Path, change: Callable[[Json], None]) -> tuple[Path, Path]:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    document = read(COMPLETE)
    before.write_text(json.dumps(document), "utf-8")
    document = deepcopy(document)
    change(document)
    after.write_text(json.dumps(document), "utf-8")
    return before, after


def test_nothing_that_was_released_is_broken() -> None:
    assert breaking_changes(RELEASED, COMPLETE) == []


def test_no_operation_goes_to_another_class_of_a_client() -> None:
    """Generators make a class of each tag; the linter does not look at them."""
    now = {operation["operationId"]: operation["tags"] for operation in operations(read(COMPLETE))}
    for operation in operations(read(RELEASED)):
        assert now[operation["operationId"]] == operation["tags"]


@pytest.mark.parametrize(
    "change",
    [
        _take_an_operation_away,
        _take_a_member_of_an_answer_away,
        _let_a_member_be_absent,
        _ask_for_more,
        _take_less,
        _name_an_operation_anew,
        _take_a_parameter_away,
        _take_a_way_to_log_in_away,
        _take_a_webhook_away,
    ],
)
def test_a_breaking_change_is_found(tmp_path: Path, change: Callable[[Json], None]) -> None:
    assert breaking_changes(*_changed(tmp_path, change))


def test_an_addition_breaks_nothing(tmp_path: Path) -> None:
    assert breaking_changes(*_changed(tmp_path, _add_what_may_be_added)) == []
