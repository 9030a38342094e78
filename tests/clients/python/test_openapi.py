"""schemathesis over docs/openapi.json: what the document says may be sent is sent, right and wrong, and what comes back must be what
the document says."""

import os
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"

if not DOCUMENT.exists():
    pytest.skip(f"{DOCUMENT} is not there: `cargo run -p firecrest-contract --features schema --example reference` makes it", allow_module_level=True)

schema = schemathesis.openapi.from_path(str(DOCUMENT))


# Models are not loaded and unloaded at random; and count_tokens takes what messages takes.
@schema.exclude(path_regex="^/admin/|/count_tokens$").parametrize()
@hypothesis.settings(
    # Drawing a body of such schemas takes longer than its answer.
    max_examples=100 if os.environ.get("FIRECREST_FULL") == "1" else 4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_the_document_is_true(case, scripted, embedded):
    # Scripts make no vectors.
    server, model = (embedded, "firecrest-chat") if case.path == "/v1/embeddings" else (scripted, "hello")
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        # A name that nobody has would be all that is found.
        case.body = {**case.body, "model": model}
    case.call_and_validate(
        base_url=server.url,
        timeout=5,
        checks=[schemathesis.checks.not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance],
    )
