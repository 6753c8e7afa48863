#!/usr/bin/env python3
"""Holds tests/cases/pipelines/cases.yaml to pySigma, which defines what a processing pipeline does.

`tests/it/pipelines.rs` holds Hydrant to the same file. Needs pysigma (tests/real/requirements.txt); without it this
says so and ends with 3. Ends with 1 if pySigma makes something else of a rule than the file says.
"""
import pathlib
import sys

try:
    import yaml
    from sigma import types
    from sigma.collection import SigmaCollection
    from sigma.conditions import ConditionAND, ConditionFieldEqualsValueExpression, ConditionNOT, ConditionOR
    from sigma.correlations import SigmaCorrelationRule
    from sigma.exceptions import SigmaTransformationError
    from sigma.processing.pipeline import ProcessingPipeline
except ImportError as missing:
    print(f"SKIPPED: pySigma is not installed ({missing}): pip install -r tests/real/requirements.txt")
    sys.exit(3)

CASES = pathlib.Path(__file__).parent.parent / "cases" / "pipelines" / "cases.yaml"
SIGNS = {"LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}


def parts(kind, expression):
    """What an expression consists of, its own kind inside itself taken apart."""
    for part in expression.args:
        if isinstance(part, kind):
            yield from parts(kind, part)
        else:
            yield shown(part)


def join(name, list_of):
    """The parts as one; None is a search of which everything was dropped."""
    list_of = [part for part in list_of if part is not None]
    if len(list_of) < 2:
        return list_of[0] if list_of else None
    return f"{name}({', '.join(list_of)})"


def shown(expression):
    if expression is None:
        return None
    if isinstance(expression, ConditionAND):
        return join("all", parts(ConditionAND, expression))
    if isinstance(expression, ConditionOR):
        return join("any", parts(ConditionOR, expression))
    if isinstance(expression, ConditionNOT):
        inner = shown(expression.args[0])
        return inner and f"not({inner})"
    value = expression.value
    field = expression.field if isinstance(expression, ConditionFieldEqualsValueExpression) else "event"
    if isinstance(value, types.SigmaString):
        return f"{field} = {value}"
    if isinstance(value, types.SigmaCompareExpression):
        return f"{field} {SIGNS[value.op.name]} {value.number}"
    if isinstance(value, types.SigmaNumber):
        return f"{field} == {value}"
    if isinstance(value, types.SigmaNull):
        return f"{field} is null"
    if isinstance(value, types.SigmaExists):
        return f"{field} exists"
    if isinstance(value, types.SigmaCIDRExpression):
        return f"{field} in {value.cidr}"
    if isinstance(value, types.SigmaFieldReference):
        return f"{field} = field {value.field}"
    if isinstance(value, types.SigmaRegularExpression):
        flags = "".join(sorted(flag.name[0].lower() for flag in value.flags))
        return f"{field} ~ {f'(?{flags})' if flags else ''}{value.regexp}"
    raise ValueError(f"{type(value)} is not compared")


def result(rule, pipeline):
    try:
        pipeline.apply(rule)
    except SigmaTransformationError as error:
        return f"refused: {error.args[0]}"
    if isinstance(rule, SigmaCorrelationRule):
        aliases = [f"{a.alias} of {ref.reference} {field}" for a in rule.aliases for ref, field in a.mapping.items()]
        field = rule.condition.fieldref
        return "; ".join([f"group-by {', '.join(rule.group_by)}", f"field {field if isinstance(field, str) else ', '.join(field)}", *aliases])
    return join("any", (shown(condition.parsed) for condition in rule.detection.parsed_condition))


def is_new(source, before):
    return (source.product, source.category, source.service) != before


def main():
    wrong = compared = 0
    for case in yaml.safe_load(CASES.read_text()):
        pipelines = [ProcessingPipeline.from_yaml(text) for text in case["pipelines"]]
        pipeline = sum(sorted(pipelines, key=lambda p: p.priority))
        found = []
        for rule in SigmaCollection.from_yaml(case["rules"]).rules:
            source = getattr(rule, "logsource", None)
            before = source and (source.product, source.category, source.service)
            fields = list(rule.fields)
            text = result(rule, pipeline)
            if fields:
                text += f"; fields {', '.join(rule.fields)}"
            if source and is_new(rule.logsource, before):
                now = rule.logsource
                text += "; " + "/".join(part for part in (now.product, now.category, now.service) if part)
            found.append(text)
        compared += len(found)
        if found != case["expect"]:
            wrong += 1
            print(f"{case['name']}:\n  expected {case['expect']}\n  pySigma  {found}")
    print(f"{compared} rules compared with pySigma, {wrong} cases differ")
    sys.exit(1 if wrong else 0)


main()
