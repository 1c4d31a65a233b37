"""Drives statsig-python-core."""

from typing import Any

from lines import Lines
from statsig_python_core import (
    ExperimentEvaluationOptions,
    FeatureGateEvaluationOptions,
    LayerEvaluationOptions,
    ObservabilityClient,
    Statsig,
    StatsigOptions,
    StatsigUser,
)


class Observer(ObservabilityClient):
    """Hands on what the SDK says of batches that it gives up."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def error(self, tag: str, error: str) -> None:
        if tag.endswith("log_event_failed"):
            self._lines.say(gave_up=error)

    def should_enable_high_cardinality_for_this_tag(self, _tag: str) -> bool:
        return False


def user_of(told: dict[str, Any]) -> StatsigUser:
    return StatsigUser(
        user_id=told["userID"],
        custom_ids={"stableID": told["stableID"]},
        country=told["country"],
        private_attributes={"secret_plan": told["secret"]},
    )


def see_all(sdk: Statsig, lines: Lines, told: dict[str, Any]) -> None:
    user, job = user_of(told), lines.job
    for name, by in job["gates"]:
        gate = sdk.get_feature_gate(user, name)
        lines.exposed("gate", name, told[by], gate.rule_id, value=gate.value)
    for name, by in job["configs"]:
        config = sdk.get_dynamic_config(user, name)
        lines.exposed("dynamic_config", name, told[by], config.rule_id)
    for name, by in job["experiments"]:
        experiment = sdk.get_experiment(user, name)
        lines.exposed("experiment", name, told[by], experiment.rule_id, group=experiment.group_name)
    for name, parameters in job["layers"]:
        layer = sdk.get_layer(user, name)
        for parameter in parameters:
            layer.get_string(parameter, "")
            lines.exposed("layer", name, told["userID"], layer.rule_id, parameter=parameter)


def see_all_by_hand(sdk: Statsig, lines: Lines, told: dict[str, Any]) -> None:
    user, unit, job = user_of(told), told["userID"], lines.job
    gate, experiment, config, (layer, parameter) = job["by_hand"]
    shown = sdk.get_feature_gate(user, gate, FeatureGateEvaluationOptions(disable_exposure_logging=True))
    sdk.manually_log_gate_exposure(user, gate)
    lines.exposed("gate", gate, unit, shown.rule_id, value=shown.value, by_hand=True)
    rule = sdk.get_experiment(user, experiment, ExperimentEvaluationOptions(disable_exposure_logging=True)).rule_id
    sdk.manually_log_experiment_exposure(user, experiment)
    lines.exposed("experiment", experiment, unit, rule, by_hand=True)
    sdk.manually_log_dynamic_config_exposure(user, config)
    lines.exposed("dynamic_config", config, unit, "default", by_hand=True)
    rule = sdk.get_layer(user, layer, LayerEvaluationOptions(disable_exposure_logging=True)).rule_id
    sdk.manually_log_layer_parameter_exposure(user, layer, parameter)
    lines.exposed("layer", layer, unit, rule, parameter=parameter, by_hand=True)


def log_all(sdk: Statsig, lines: Lines, told: dict[str, Any]) -> None:
    for name, value in lines.job["events"]:
        own_id = f"{told['userID'] or told['stableID']}-{name}"
        sdk.log_event(user_of(told), name, value, {"own_id": own_id, "n": 1})
        lines.logged(name, own_id, value)


def main() -> None:
    lines = Lines()
    gateway = lines.job["gateway"]
    options = StatsigOptions()
    options.specs_url = f"{gateway}/v2/download_config_specs"
    options.log_event_url = f"{gateway}/v1/log_event"
    options.id_lists_url = f"{gateway}/v1/get_id_lists"
    options.enable_id_lists = True
    options.output_log_level = "error"
    options.disable_country_lookup = True
    options.observability_client = Observer(lines)
    options.specs_sync_interval_ms = lines.job.get("sync_s", 10) * 1000
    sdk = Statsig(lines.job["secret_key"], options)
    sdk.initialize().wait()
    for command in lines.commands():
        match command["do"]:
            case "all":
                for told in lines.job["users"]:
                    see_all(sdk, lines, told)
                    log_all(sdk, lines, told)
                see_all_by_hand(sdk, lines, lines.job["by_hand_user"])
                log_all(sdk, lines, lines.job["nobody"])
            case "see":
                for told in command["users"]:
                    see_all(sdk, lines, told)
            case "events":
                for told in command["users"]:
                    experiment = sdk.get_experiment(user_of(told), lines.job["experiments"][0][0])
                    lines.exposed("experiment", experiment.name, told["userID"], experiment.rule_id)
                    log_all(sdk, lines, told)
            case "gate":
                for told in command["users"]:
                    gate = sdk.get_feature_gate(user_of(told), command["gate"])
                    lines.exposed("gate", gate.name, told["userID"], gate.rule_id, value=gate.value)
            case "flush":
                sdk.flush_events().wait()
            case "stop":
                sdk.shutdown().wait()


main()
