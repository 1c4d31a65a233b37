"""Drives statsig, the legacy server SDK of PyPI."""

import threading
from typing import Any

from lines import Lines
from statsig import StatsigEvent, StatsigOptions, StatsigUser, statsig


def user_of(told: dict[str, Any]) -> StatsigUser:
    return StatsigUser(
        told["userID"],
        custom_ids={"stableID": told["stableID"]},
        country=told["country"],
        private_attributes={"secret_plan": told["secret"]},
    )


class Drops:
    """Names the events that the SDK says it has dropped."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._failed = threading.local()

    def on_flush(self, success: bool, events: list[dict[str, Any]], *_: Any) -> None:
        self._failed.events = [] if success else events

    def on_error(self, tag: str, _: Exception) -> None:
        if tag != "statsig::log_event_failed":
            return
        for event in self._failed.events:
            metadata = event["metadata"]
            if own_id := metadata.get("own_id"):
                self._lines.say(dropped={"own_id": own_id})
            elif name := metadata.get("gate") or metadata.get("config"):
                self._lines.say(dropped={"name": name, "unit": event["user"]["userID"]})


def see_all(lines: Lines, told: dict[str, Any]) -> None:
    user, job = user_of(told), lines.job
    for name, by in job["gates"]:
        gate = statsig.get_feature_gate(user, name)
        lines.exposed("gate", name, told[by], gate.rule_id, value=gate.value)
    for name, by in job["configs"]:
        lines.exposed("dynamic_config", name, told[by], statsig.get_config(user, name).rule_id)
    for name, by in job["experiments"]:
        experiment = statsig.get_experiment(user, name)
        lines.exposed("experiment", name, told[by], experiment.rule_id, group=experiment.group_name)
    for name, parameters in job["layers"]:
        layer = statsig.get_layer(user, name)
        for parameter in parameters:
            layer.get(parameter, "")
            lines.exposed("layer", name, told["userID"], layer.rule_id, parameter=parameter)


def see_all_by_hand(lines: Lines, told: dict[str, Any]) -> None:
    user, unit = user_of(told), told["userID"]
    gate, experiment, config, (layer, parameter) = lines.job["by_hand"]
    shown = statsig.get_feature_gate(user, gate, log_exposure=False)
    statsig.manually_log_gate_exposure(user, gate)
    lines.exposed("gate", gate, unit, shown.rule_id, value=shown.value, by_hand=True)
    rule = statsig.get_experiment_with_exposure_logging_disabled(user, experiment).rule_id
    statsig.manually_log_experiment_exposure(user, experiment)
    lines.exposed("experiment", experiment, unit, rule, by_hand=True)
    statsig.manually_log_config_exposure(user, config)
    lines.exposed("dynamic_config", config, unit, "default", by_hand=True)
    rule = statsig.get_layer_with_exposure_logging_disabled(user, layer).rule_id
    statsig.manually_log_layer_parameter_exposure(user, layer, parameter)
    lines.exposed("layer", layer, unit, rule, parameter=parameter, by_hand=True)


def log_all(lines: Lines, told: dict[str, Any]) -> None:
    for name, value in lines.job["events"]:
        own_id = f"{told['userID'] or told['stableID']}-{name}"
        statsig.log_event(StatsigEvent(user_of(told), name, value=value, metadata={"own_id": own_id, "n": [1, None]}))
        lines.logged(name, own_id, value)


def main() -> None:
    lines = Lines()
    drops = Drops(lines)
    options = StatsigOptions(
        api=f"{lines.job['gateway']}/v1/",
        disable_country_lookup=True,
        rulesets_sync_interval=lines.job.get("sync_s", 10),
        events_flushed_callback=drops.on_flush,
        sdk_error_callback=drops.on_error,
    )
    statsig.initialize(lines.job["secret_key"], options)
    for command in lines.commands():
        match command["do"]:
            case "all":
                for told in lines.job["users"]:
                    see_all(lines, told)
                    log_all(lines, told)
                see_all_by_hand(lines, lines.job["by_hand_user"])
                log_all(lines, lines.job["nobody"])
            case "see":
                for told in command["users"]:
                    see_all(lines, told)
            case "events":
                for told in command["users"]:
                    name = lines.job["experiments"][0][0]
                    lines.exposed(
                        "experiment", name, told["userID"], statsig.get_experiment(user_of(told), name).rule_id
                    )
                    log_all(lines, told)
            case "gate":
                for told in command["users"]:
                    gate = statsig.get_feature_gate(user_of(told), command["gate"])
                    lines.exposed("gate", gate.name, told["userID"], gate.rule_id, value=gate.value)
            case "flush":
                statsig.flush()
            case "stop":
                statsig.shutdown()


main()
