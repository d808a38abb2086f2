"""Whatever JSON the state files hold, the machine gets an id and the agent starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.adapters.storage.state_dir import IDENTITY_NAME, STOP_NAME, StateDir, StopMarker

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
documents = values | st.dictionaries(
    st.sampled_from(["machine_id", "reason", "instance_id", "written_at_s"]), values | st.just("1165a9b6")
)


def holding(directory: Path, name: str, document: Any) -> StateDir:
    """Return a state directory whose file of that name holds the document."""
    state = StateDir.open(directory / "state")
    file = state.path / name
    file.touch(0o600)
    file.write_text(json.dumps(document))
    return state


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents)
def test_the_machine_has_an_id_whatever_was_kept(tmp_path: Path, document: Any) -> None:
    state = holding(tmp_path, IDENTITY_NAME, document)
    identity = state.machine_id()
    assert re.fullmatch("[0-9a-f]{8}", identity.machine_id)
    assert StateDir.open(state.path).machine_id().machine_id == identity.machine_id, (
        "the id changes at the next start"
    )
    if identity.note is None:
        assert document["machine_id"] == identity.machine_id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents)
@example({"written_at_s": 10**400})
def test_a_stop_marker_is_understood_or_does_not_count(tmp_path: Path, document: Any) -> None:
    marker = holding(tmp_path, STOP_NAME, document).read_stop()
    assert marker is None or isinstance(marker, StopMarker)
    assert (marker is None) == (not isinstance(document, dict))
    if marker is not None:
        assert isinstance(marker.reason, str)
        assert isinstance(marker.instance_id, str)
        assert isinstance(marker.written_at_s, float)
