"""The tests of two hosts are never left out where they are asked for."""

from __future__ import annotations

import pytest

from tests.measure.nodes import hosts


def test_without_namespaces_tests_are_skipped_or_fail_where_they_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosts, "why_no_hosts", lambda: "network namespaces need root")
    monkeypatch.delenv("BENCHBOX_TWO_HOSTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="need root"):
        hosts.skip_without_hosts()
    monkeypatch.setenv("BENCHBOX_TWO_HOSTS", "required")
    with pytest.raises(pytest.fail.Exception, match="required, but network namespaces need root"):
        hosts.skip_without_hosts()
    monkeypatch.setattr(hosts, "why_no_hosts", lambda: None)
    hosts.skip_without_hosts()
