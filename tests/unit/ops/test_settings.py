"""A setting that cannot work is named at once, and not by a process that never gets ready."""

import pytest

from ops import settings


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HEADRACE_KAFKA_BOOTSTRAP", "kafka:port", "'kafka:port' is no host:port"),
        ("HEADRACE_KAFKA_BOOTSTRAP", "kafka-1:9092,kafka-2", "'kafka-2' is no host:port"),
        ("HEADRACE_KAFKA_BOOTSTRAP", "kafka://kafka-1:9092", "is no host:port"),
        ("HEADRACE_KAFKA_SECURITY_PROTOCOL", "TLS", "'SASL_SSL'"),
        ("HEADRACE_KAFKA_SASL_MECHANISM", "scram", "'SCRAM-SHA-512'"),
        ("HEADRACE_KAFKA_SSL_CA_FILE", "no/such/file.pem", "there is no file no/such/file.pem"),
        ("HEADRACE_CLICKHOUSE", "db:8123", "must be http[s]://"),
        ("HEADRACE_CLICKHOUSE", "http://", "must be http[s]://"),
        ("HEADRACE_CLICKHOUSE", "http://me:secret@db:x/", "must be http[s]://"),
        ("HEADRACE_CLICKHOUSE", "http://me:secret/@db", "must be http[s]://"),
        ("HEADRACE_LOG_LEVEL", "verbose", "'warning'"),
        ("HEADRACE_OTLP_EXPOSURES", "split,targetting_match", "'targetting_match' is neither 'all' alone nor one of"),
    ],
)
def test_a_setting_that_cannot_work_is_named_with_why(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name) as refused:
        settings.load()
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "http://db", "https://me:s%40cret@db.internal:8443/events", "http://[::1]:8123/"])
def test_addresses_of_a_store_are_taken(monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setenv("HEADRACE_CLICKHOUSE", url)
    assert settings.load().clickhouse == url


@pytest.mark.parametrize("brokers", ["", "127.0.0.1:9092", "kafka-1.internal:9092,kafka-2:9093", "[::1]:9092"])
def test_addresses_of_brokers_are_taken_as_kafka_clients_take_them(monkeypatch: pytest.MonkeyPatch, brokers: str):
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP", brokers)
    assert settings.load().kafka_bootstrap == brokers
