"""The API against its own description: whatever is sent, no fault of ours, and no answer that is not described."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from squareoff.core.access import Scope
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.api.conftest import INFY, Served

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "missing_required_header",
)
MAY_SAY_503 = "/readiness"
"""That is what it is for; it is tested by itself."""
NEVER_ENDS = "/events"
"""A stream: it is tested by itself."""
SPENDS_MINUTES = "/replays"
"""Each starts a process of its own; its own test sends nonsense."""
LOCKS_OUT = r"/tokens/\{token_id\}|/users/\{user_id\}"
"""They revoke the very token that asks, or disable its user: from then on everything would be a 401."""
LEFT_OUT = f"{MAY_SAY_503}|{NEVER_ENDS}|{SPENDS_MINUTES}|{LOCKS_OUT}"


@pytest.mark.processes
def test_whatever_is_sent_every_answer_is_one_that_is_described(served: Served, tmp_path: Path) -> None:
    browser = served.signed_in()
    for name in ("one", "two", "three"):
        browser.post("strategies", {**INFY, "name": name})
    _, token = served.desk.access.make_token(UserId(1), "fuzz", Scope.ADMIN, None)
    report = tmp_path / "report"
    command = [sys.executable, "-m", "schemathesis.cli", "run"]
    command += [f"http://127.0.0.1:{served.port}/api/v1/openapi.json", "--header", f"Authorization: Bearer {token}"]
    command += ["--checks", ",".join(CHECKS), "--max-examples", "8", "--workers", "1", "--seed", "1", "--no-color"]
    command += [
        "--exclude-path-regex",
        f"({MAY_SAY_503}|{NEVER_ENDS}|{SPENDS_MINUTES}|/alerts/test|/sessions?$|/password)$",
    ]
    command += ["--suppress-health-check", "all", "--report", "ndjson", "--report-dir", str(report)]
    # where it runs it keeps what it found: that must neither stay nor decide what it tries next time
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"


def test_what_is_described_is_what_is_served(browser: Browser) -> None:
    document = browser.get("openapi.json")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            told = set(operation["responses"])
            assert {"200", "201", "202", "204"} & told, (method, path)
            if not path.endswith(("/health", "/version", "/readiness")):
                assert "401" in told, (method, path)
    problem = document["components"]["schemas"]["ProblemBody"]
    assert set(problem["required"]) >= {"code", "message"}
    assert "HTTPValidationError" not in json.dumps(document)
