"""schemathesis over docs/openapi.json: what the document says may be sent is sent, right and wrong, and what comes back is what the document says."""

from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"

if not DOCUMENT.exists():
    pytest.skip(f"{DOCUMENT} is not there: `cargo xtask docs` makes it", allow_module_level=True)

schema = schemathesis.openapi.from_path(str(DOCUMENT))


@schema.exclude(path_regex="^/admin/").parametrize()
@hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_the_document_is_true(case, scripted):
    case.call_and_validate(
        base_url=scripted.url,
        timeout=5,
        checks=[schemathesis.checks.not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance],
    )
