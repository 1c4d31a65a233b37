"""Exposures as the worker writes them, for tests that need some."""

import hashlib
import time
from typing import Any

from schemas.avro import EXPOSURE


def exposure(**fields: Any) -> dict[str, Any]:
    """Return all fields of an exposure; what is not named is plausible. The id follows from origin, name and unit."""
    now_ms = int(time.time() * 1000)
    values: dict[str, Any] = {
        "origin_index": 0,
        "origin_part": 0,
        "origin_log": 1,
        "origin_partition": 0,
        "origin_offset": 0,
        "project": "default",
        "environment": "production",
        "key_id": "k1",
        "request_id": "r1",
        "received_at": now_ms,
        "sdk_type": "statsig-python-core",
        "sdk_version": "0.24.0",
        "session_id": "s1",
        "tier": "production",
        "event_time": now_ms - 5,
        "event_time_ms": now_ms - 5,
        "corrected_time": now_ms - 5,
        "time_flag": "ok",
        "lateness_ms": 5,
        "unit_type": "userID",
        "unit_id": "u1",
        "user_id": fields.get("unit_id", "u1"),
        "stable_id": "",
        "custom_ids": {},
        "canonical_id": "",
        "country": "DE",
        "app_version": "",
        "is_bot": False,
        "weight": 1.0,
        "metadata": "{}",
        "user": '{"email":"somebody@example.com"}',
        "parent_event_id_bytes": bytes(16),
        "value": "",
        "kind": "experiment",
        "name": "checkout",
        "rule_id": "rule",
        "group_name": "Control",
        "parameter": "",
        "allocated_experiment": "",
        "wire_name": "checkout",
        "stamped_version": "",
        "stamped_time": None,
        "config_version": "7",
        "config_time": None,
        "config_match": "exact",
        "assignment": "match",
        "expected_group": "",
        "reason": "",
        "is_manual": False,
        **fields,
    }
    origin = [values[f"origin_{part}"] for part in ("log", "partition", "offset", "index", "part")]
    values.setdefault(
        "event_id_bytes", hashlib.md5(repr([origin, values["name"], values["unit_id"]]).encode()).digest()
    )
    return values


def framed(**fields: Any) -> bytes:
    """Return an exposure as it stands in the topic."""
    return EXPOSURE.encode(exposure(**fields))
