"""Config specs with many entities of every kind, that change from version to version."""

import random
from typing import Any

Json = dict[str, Any]

VERSION_GATE = "which_version"
"""A gate whose rule says which document an SDK has: `rule_v3`."""

_IDS = ("userID", "stableID")


def document_of(version: int, time: int, seed: int, salt: str = "", gates: int = 20, experiments: int = 10) -> Json:
    """Return a dcs v1 document; `salt` is put before every salt, and nothing else is other for it.

    What is drawn does not depend on the version, but for bounds and percentages, which all change.
    """
    rng = random.Random(seed)
    drawn = random.Random(seed * 1000 + version)
    made = [_gate(f"gate_{number}", version, rng, drawn, salt) for number in range(gates)]
    made.append(_spec("holdout", "holdout", version, "userID", salt, [_rule("held", 7, _public("userID"), salt)]))
    half = _spec("half", "feature_gate", version, "userID", salt, [_rule("half_rule", 50, _public("userID"), salt)])
    now = _rule(f"rule_v{version}", 100, _public("userID"), salt)
    made += [half, _spec(VERSION_GATE, "feature_gate", version, "userID", salt, [now])]
    tests = [_experiment(f"exp_{number}", version, rng, drawn, salt) for number in range(experiments)]
    inner = [_experiment(f"inner_{number}", version, rng, drawn, salt, by="userID") for number in range(4)]
    configs = [_config(f"config_{number}", version, drawn, salt) for number in range(3)]
    layers = [_layer(f"layer_{number}", version, [2 * number, 2 * number + 1], drawn, salt) for number in range(2)]
    return {
        "has_updates": True,
        "time": time,
        "feature_gates": made,
        "dynamic_configs": [*tests, *inner, *configs],
        "layer_configs": layers,
        "layers": {},
        "id_lists": {},
        "company_id": "c",
        "checksum": f"{version}",
        "experiment_to_layer": {f"inner_{n}": f"layer_{n // 2}" for n in range(4)},
    }


def names_of(document: Json) -> Json:
    """Return what a driver is told to read: gates, configs, experiments, layers, each with who decides it."""
    gates = [[gate["name"], _key(gate)] for gate in document["feature_gates"] if gate["entity"] == "feature_gate"]
    of = {
        kind: [[spec["name"], _key(spec)] for spec in document["dynamic_configs"] if spec["entity"] == kind]
        for kind in ("experiment", "dynamic_config")
    }
    layers = [[layer["name"], ["title", "subtitle"]] for layer in document["layer_configs"]]
    return {"gates": gates, "configs": of["dynamic_config"], "experiments": of["experiment"], "layers": layers}


def _key(spec: Json) -> str:
    return str(spec["idType"])


def _gate(name: str, version: int, rng: random.Random, drawn: random.Random, salt: str) -> Json:
    by = rng.choice(_IDS)
    rules = []
    kind = rng.choice(("percentage", "percentage", "nested", "not nested", "bucket", "listed", "country"))
    if kind == "nested":
        rules.append(_rule(f"{name}_in", 100, _condition("pass_gate", by, target="half"), salt))
    elif kind == "not nested":
        rules.append(_rule(f"{name}_out", 40, _condition("fail_gate", by, target="half"), salt))
    elif kind == "bucket":
        operator = rng.choice(("lt", "lte", "gt", "gte"))
        bound = drawn.randrange(1000)
        rules.append(_rule(f"{name}_b", 100, _bucket(by, f"{salt}{name}-b", bound, operator), salt))
    elif kind == "listed":
        listed = sorted(drawn.sample(range(1000), 300))
        rules.append(_rule(f"{name}_l", 100, _bucket(by, f"{salt}{name}-l", listed, rng.choice(("any", "none"))), salt))
    elif kind == "country":
        rules.append(_rule(f"{name}_ca", 50, _condition("user_field", by, "any", ["CA"], field="country"), salt))
    rules.append(_rule(f"{name}_p", drawn.choice((0, 0.1, 12.5, 33.3, 50, 99.9, 100)), _public(by), salt, by=by))
    if rng.random() < 0.3:
        rules[-1].pop("salt")
    return _spec(name, "feature_gate", version, by, salt, rules)


def _experiment(
    name: str, version: int, rng: random.Random, drawn: random.Random, salt: str, by: str | None = None
) -> Json:
    by = by or rng.choice(_IDS)
    groups = rng.choice((2, 3, 4))
    own = f"{salt}{name}-groups"
    first = drawn.choice((100, 200, 250))
    bounds = [first + (1000 - first) * number // (groups - 1) for number in range(groups)]
    bounds[-1] = rng.choice((1000, 900))
    rules = []
    if rng.random() < 0.5:
        rules.append(
            _rule(f"{name}_held", 100, _condition("pass_gate", "userID", target="holdout"), salt, group="Held")
        )
    if rng.random() < 0.3:
        rules.append(_rule(f"{name}_de", 100, _condition("user_field", by, "any", ["DE"], field="country"), salt))
    for number, bound in enumerate(bounds):
        rule = _rule(f"{name}_g{number}", 100, _bucket(by, own, bound, "lt"), salt, by=by, group=f"Group {number}")
        rules.append(rule | {"isExperimentGroup": True})
    more = {"isActive": True, "explicitParameters": ["title"], "hasSharedParams": name.startswith("inner")}
    return _spec(name, "experiment", version, by, salt, rules) | more


def _config(name: str, version: int, drawn: random.Random, salt: str) -> Json:
    rule = _rule(f"{name}_some", drawn.choice((30, 60)), _public("userID"), salt)
    return _spec(name, "dynamic_config", version, "userID", salt, [rule])


def _layer(name: str, version: int, inner: list[int], drawn: random.Random, salt: str) -> Json:
    rules = [
        _rule(f"{name}_r{number}", 100, _bucket("userID", f"{salt}{name}", bound, "lt"), salt)
        | {"configDelegate": f"inner_{number}"}
        for number, bound in zip(inner, (drawn.randrange(200, 500), 900), strict=True)
    ]
    return _spec(name, "layer", version, "userID", salt, rules) | {"defaultValue": {"title": "", "subtitle": ""}}


def _spec(name: str, entity: str, version: int, by: str, salt: str, rules: list[Json]) -> Json:
    is_gate = entity in ("feature_gate", "holdout")
    if not is_gate:
        rules = [{**rule, "returnValue": {"title": "", "subtitle": rule["id"]}} for rule in rules]
    return {
        "name": name,
        "type": "feature_gate" if is_gate else "dynamic_config",
        "salt": f"{salt}{name}-salt",
        "enabled": True,
        "defaultValue": False if is_gate else {},
        "idType": by,
        "entity": entity,
        "version": version,
        "rules": [{**rule, "idType": rule["idType"] or by} for rule in rules],
    }


def _rule(id_: str, percentage: float, condition: Json, salt: str, by: str = "", group: str = "") -> Json:
    return {
        "name": id_,
        "id": id_,
        "salt": f"{salt}{id_}-salt",
        "passPercentage": percentage,
        "returnValue": True,
        "groupName": group or f"Group of {id_}",
        "idType": by,
        "conditions": [condition],
    }


def _condition(type_: str, by: str, operator: str | None = None, target: Any = None, **more: Any) -> Json:
    more = {"field": None, "additionalValues": {}} | more
    return {"type": type_, "targetValue": target, "operator": operator, "idType": by, **more}


def _public(by: str) -> Json:
    return _condition("public", by)


def _bucket(by: str, salt: str, bound: Any, operator: str) -> Json:
    return _condition("user_bucket", by, operator, bound, additionalValues={"salt": salt})
