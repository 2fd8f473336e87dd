import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.documents import BOTH, COMPLETE, Json, read
from tests.contract.linters import redocly, spectral

both = pytest.mark.parametrize("path", BOTH, ids=lambda path: path.stem)


@both
@pytest.mark.parametrize("linter", [spectral, redocly])
def test_a_linter_finds_nothing(linter: Callable[[Path], list[Json]], path: Path) -> None:
    assert linter(path) == []


def test_the_linters_do_find_what_is_wrong(tmp_path: Path) -> None:
    document = read(COMPLETE)
    del document["components"]["schemas"]["Job"]["properties"]["cvm"]["maxLength"]
    del document["paths"]["/jobs"]["get"]["parameters"][0]["schema"]
    document["paths"]["/jobs"]["get"]["security"] = []
    del document["paths"]["/jobs"]["get"]["responses"]["403"]["headers"]["RateLimit"]
    document["components"]["schemas"]["Unused"] = {"type": "boolean"}
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(document), "utf-8")
    found = {each["code"] for each in spectral(wrong)}
    assert found >= {
        "every-string-has-a-limit",
        "every-known-caller-is-told-the-quota",
        "owasp:api2:2023-read-restricted",
    }
    assert "no-unused-components" in {each["ruleId"] for each in redocly(wrong)}
