"""Config specs as SDKs evaluate them, as far as what an exposure tells goes.

From the sources of the SDKs (core: evaluator.rs; python: evaluator.py; node: Evaluator.ts): u64 is the
first 8 bytes, big endian, of SHA-256 of a text. A percentage passes when
`u64(spec.salt.rule.salt.unit) % 10000 < percentage * 100`; a `user_bucket` is
`u64(condition.salt.unit) % 1000`. Rules go in order, and the first whose conditions all hold decides.

A specs entity is compiled once into functions. A condition on what no exposure tells (country, time,
id lists, private attributes …) gives None: it may hold or not.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from hashlib import sha256
from operator import attrgetter
from struct import Struct
from typing import Any, Final, NamedTuple

from processors.unit import Ids
from schemas.specs import Section

_BUCKETS: Final = 1000
_PERCENTAGE_STEPS: Final = 10_000
_DEEPEST: Final = 16
_ENTITIES: Final = 1_000
"""That lead to one decision, each counted as often as it is led to: all of them may have to be evaluated for a unit."""
_first_u64: Final = Struct(">Q").unpack_from

Spec = Mapping[str, Any]
Find = Callable[[Section, str], Spec | None]
Condition = Callable[[Ids], bool | None]


class Decided(NamedTuple):
    """What a spec gives a unit: the rule, its group, and whether its percentage passed."""

    rule_id: str
    group_name: str
    passes: bool


Step = Callable[[Ids, str], Decided | None]


class Plan(NamedTuple):
    """A compiled entity. `decide(ids, claim)`: where what is not told decides, the rule `claim` is believed."""

    decide: Callable[[Ids, str], Decided]
    rules: Mapping[str, "Certainty"]
    """By rule id, delegates' included: what stands on the way to it."""


class Certainty(NamedTuple):
    """Whether a claim can be checked: it is when nothing is believed, or when at least a hash is computed."""

    believes: bool
    hashes: bool

    @property
    def is_checkable(self) -> bool:
        """Whether anything of the claim is recomputed."""
        return self.hashes or not self.believes


class NotAuditableError(Exception):
    """A spec is of a kind that this code does not evaluate."""


def u64(text: str) -> int:
    """Return the number that SDKs make of a text. Raises UnicodeEncodeError for lone surrogates."""
    number: int = _first_u64(sha256(text.encode()).digest())[0]
    return number


def compile_plan(find: Find, section: Section, name: str) -> Plan | None:
    """Compile an entity of a document, None where it is not there. Raises NotAuditableError."""
    spec = find(section, name)
    return None if spec is None else _Compiler(find).plan(spec, 0)


_ALWAYS: Final[tuple[Condition, bool]] = ((lambda _ids: True), False)


class _Compiler:
    def __init__(self, find: Find) -> None:
        self._find = find
        self._entities = 0

    def plan(self, spec: Spec, depth: int) -> Plan:
        self._entities += 1
        if depth > _DEEPEST or self._entities > _ENTITIES:
            raise NotAuditableError("configs that lead to themselves, or to too many others")
        if spec.get("useNewLayerEval"):
            raise NotAuditableError("a layer of a newer kind")
        steps: list[Step] = []
        rules: dict[str, Certainty] = {}
        believes = hashes = False
        run: list[tuple[int, Decided]] = []
        run_of: tuple[str, str] | None = None
        for rule in spec["rules"] if spec["enabled"] else ():
            conditions = [self._condition(condition, depth) for condition in rule["conditions"]]
            believes = believes or any(each is None for each in conditions)
            hashes = hashes or any(each is not None and each[1] for each in conditions)
            percentage = float(rule["passPercentage"])
            delegate = self._delegate(rule, depth)
            is_hashed = hashes or not (percentage <= 0 or percentage >= 100)
            own = Certainty(believes, is_hashed)
            below = (
                {rule["id"]: own}
                if delegate is None
                else {
                    id_: Certainty(believes or each.believes, hashes or each.hashes)
                    for id_, each in delegate.rules.items()
                }
            )
            for id_, certainty in below.items():
                rules.setdefault(id_, certainty)
            decided = Decided(rule["id"], str(rule.get("groupName") or ""), percentage >= 100)
            limit = _limit_of(rule) if delegate is None and (percentage <= 0 or percentage >= 100) else None
            if limit is not None and run and run_of == limit[:2] and limit[2] >= run[-1][0]:
                run.append((limit[2], decided))
                continue
            if run and run_of is not None:
                steps.append(_bucket_run(*run_of, run))
            run, run_of = ([(limit[2], decided)], limit[:2]) if limit is not None else ([], None)
            if limit is None:
                functions = [None if each is None else each[0] for each in conditions if each is not _ALWAYS]
                steps.append(_rule_step(functions, frozenset(below), self._outcome(spec, rule, decided, delegate)))
        if run and run_of is not None:
            steps.append(_bucket_run(*run_of, run))
        rules.setdefault("default", Certainty(believes, hashes))
        rules["disabled"] = Certainty(believes=False, hashes=False)
        otherwise = Decided("default" if spec["enabled"] else "disabled", "", False)
        return Plan(_in_order(steps, otherwise), rules)

    def _delegate(self, rule: Spec, depth: int) -> Plan | None:
        name = rule.get("configDelegate")
        spec = self._find("config", name) if name else None
        return None if spec is None else self.plan(spec, depth + 1)

    def _outcome(self, spec: Spec, rule: Spec, decided: Decided, delegate: Plan | None) -> Step:
        if delegate is not None:
            return delegate.decide
        percentage = float(rule["passPercentage"])
        if percentage <= 0 or percentage >= 100:
            return lambda _ids, _claim: decided
        salt = rule["salt"] if rule.get("salt") is not None else rule["id"]
        prefix, unit, below = f"{spec['salt']}.{salt}.", unit_getter(rule["idType"]), percentage * 100
        passed, failed = decided._replace(passes=True), decided._replace(passes=False)

        def outcome(ids: Ids, _claim: str) -> Decided:
            # `u64` written out, as below.
            number = _first_u64(sha256((prefix + unit(ids)).encode()).digest())[0]
            return passed if number % _PERCENTAGE_STEPS < below else failed

        return outcome

    def _condition(self, condition: Spec, depth: int) -> tuple[Condition, bool] | None:
        """Return the function and whether it hashes; None for what exposures do not tell."""
        match condition["type"].lower():
            case "public":
                return _ALWAYS
            case "user_bucket":
                test = _bucket_test(condition)
                return None if test is None else (test, True)
            case "pass_gate" | "fail_gate" as kind:
                return self._gate(condition.get("targetValue"), kind == "pass_gate", depth)
        return None

    def _gate(self, name: Any, wanted: bool, depth: int) -> tuple[Condition, bool] | None:
        gate = self._find("gate", name) if isinstance(name, str) else None
        if gate is None:
            return (lambda _ids: not wanted), False
        if not passes_when_true(gate):
            return None
        plan = self.plan(gate, depth + 1)
        if any(certainty.believes for certainty in plan.rules.values()):
            return None
        decide = plan.decide
        return (lambda ids: decide(ids, "")[2] is wanted), any(each.hashes for each in plan.rules.values())


def passes_when_true(gate: Spec) -> bool:
    """Tell whether a gate is true just where a percentage passes; core and legacy SDKs disagree on all others."""
    return gate.get("defaultValue") is not True and all(rule.get("returnValue") is True for rule in gate["rules"])


def unit_getter(id_type: str) -> Callable[[Ids], str]:
    """Return what reads the unit of an id type, as SDKs look it up; "" where there is none."""
    lowered = id_type.lower()
    if lowered == "userid":
        return attrgetter("user_id")
    if lowered == "stableid":
        return attrgetter("stable_id")
    return lambda ids: ids.custom.get(id_type) or ids.custom.get(lowered, "")


def _salted(condition: Spec) -> tuple[str, str] | None:
    salt = (condition.get("additionalValues") or {}).get("salt")
    id_type = condition.get("idType")
    return (f"{salt}.", id_type) if isinstance(salt, str) and isinstance(id_type, str) else None


def _bucket_test(condition: Spec) -> Condition | None:
    salted = _salted(condition)
    if salted is None:
        return None
    prefix, unit = salted[0], unit_getter(salted[1])
    target = condition.get("targetValue")
    operator = str(condition.get("operator") or "").lower()
    if operator in ("any", "none") and isinstance(target, list):
        try:
            listed = frozenset(int(each) for each in target)
        except (TypeError, ValueError):
            return None
        wanted = operator == "any"
        return lambda ids: (u64(prefix + unit(ids)) % _BUCKETS in listed) is wanted
    try:
        bound = float(target)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    match operator:
        case "lt":
            return lambda ids: u64(prefix + unit(ids)) % _BUCKETS < bound
        case "lte":
            return lambda ids: u64(prefix + unit(ids)) % _BUCKETS <= bound
        case "gt":
            return lambda ids: u64(prefix + unit(ids)) % _BUCKETS > bound
        case "gte":
            return lambda ids: u64(prefix + unit(ids)) % _BUCKETS >= bound
    return None


def _limit_of(rule: Spec) -> tuple[str, str, int] | None:
    """Return (salt, id type, bound) of a rule whose only condition is `user_bucket lt bound`."""
    if len(rule["conditions"]) != 1:
        return None
    (condition,) = rule["conditions"]
    bound = condition.get("targetValue")
    if condition["type"].lower() != "user_bucket" or condition.get("operator") != "lt" or type(bound) is not int:
        return None
    salted = _salted(condition)
    return (*salted, bound) if salted is not None else None


def _bucket_run(prefix: str, id_type: str, run: list[tuple[int, Decided]]) -> Step:
    """Return one step for the groups of an experiment, which share a hash: one is computed instead of each."""
    unit = unit_getter(id_type)
    bounds = [bound for bound, _ in run]
    outcomes = [*(decided for _, decided in run), None]

    def step(ids: Ids, _claim: str) -> Decided | None:
        # `u64` written out: this is run for most exposures there are.
        bucket = _first_u64(sha256((prefix + unit(ids)).encode()).digest())[0] % _BUCKETS
        return outcomes[bisect_right(bounds, bucket)]

    return step


def _rule_step(conditions: list[Condition | None], leads_to: frozenset[str], outcome: Step) -> Step:
    """Return a rule as a step. Rules of one condition or none are most, and each call less is 0.1 µs."""
    known = [condition for condition in conditions if condition is not None]
    believes = len(known) < len(conditions)
    if not believes and not known:
        return outcome
    if not believes and len(known) == 1:
        only = known[0]
        return lambda ids, claim: outcome(ids, claim) if only(ids) else None

    def step(ids: Ids, claim: str) -> Decided | None:
        for condition in known:
            if not condition(ids):
                return None
        if not believes:
            return outcome(ids, claim)
        if claim not in leads_to:
            return None
        decided = outcome(ids, claim)
        # A delegate ends in `default` too: where it does not for this unit, what is not told did not hold.
        return decided if decided is not None and decided.rule_id == claim else None

    return step


def _in_order(steps: list[Step], otherwise: Decided) -> Callable[[Ids, str], Decided]:
    if len(steps) == 1:
        only = steps[0]
        return lambda ids, claim: only(ids, claim) or otherwise

    def decide(ids: Ids, claim: str) -> Decided:
        for step in steps:
            decided = step(ids, claim)
            if decided is not None:
                return decided
        return otherwise

    return decide
