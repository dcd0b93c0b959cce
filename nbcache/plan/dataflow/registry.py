"""Which operator does which op. A new op is added to `model.channel.Op`, `shapes` and here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nbcache.model.channel import CompiledNode
from nbcache.plan.dataflow import gathers, keyed, operators
from nbcache.plan.dataflow.failures import FailuresOperator
from nbcache.plan.dataflow.operators import Operator
from nbcache.plan.dataflow.places import ProcessOperator, TaskOutbox
from nbcache.plan.dataflow.streams import Stream

Make = Callable[[CompiledNode, Sequence[Stream], TaskOutbox], Operator]

_OPERATORS: dict[str, Make] = {
    "map": operators.MapOperator,
    "view": operators.ViewOperator,
    "subscribe": operators.ViewOperator,
    "filter": operators.FilterOperator,
    "flat_map": operators.FlatMapOperator,
    "mix": operators.MixOperator,
    "select": operators.ChoiceOperator,
    "pair": operators.PairOperator,
    "collect": gathers.CollectOperator,
    "first": gathers.FirstOperator,
    "reduce": gathers.ReduceOperator,
    "take": gathers.TakeOperator,
    "until": gathers.UntilOperator,
    "buffer": gathers.BufferOperator,
    "unique": keyed.UniqueOperator,
    "group_by": keyed.GroupByOperator,
    "join": keyed.JoinOperator,
    "failures": FailuresOperator,
}


def operator_for(
    node: CompiledNode, parents: Sequence[Stream], outbox: TaskOutbox, is_value: Sequence[bool]
) -> Operator:
    """Return the operator of a compiled node; `is_value` tells which parents are values."""
    if node.op == "process":
        return ProcessOperator(node, parents, outbox, is_value)
    if node.op == "combine":
        make: Make = keyed.CombineByOperator if node.by else operators.CombineOperator
        return make(node, parents, outbox)
    if node.op == "fields":
        make = operators.MapOperator if node.function else operators.PassOperator
        return make(node, parents, outbox)
    if node.op == "branch":
        make = operators.SelectOperator if "select" in node.options else operators.BranchOperator
        return make(node, parents, outbox)
    return _OPERATORS[node.op](node, parents, outbox)
