"""The game as a task for Inspect, the evaluation framework of the UK AI Security Institute.

inspect eval lib/tradeoffs/inspect_task.py --model PROVIDER/MODEL --epochs 50 --temperature 1
python -m lib.tradeoffs.run --import logs/FILE.eval --out runs/MODEL.jsonl

Inspect is not among the requirements of this book: pip install inspect-ai.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from lib.tradeoffs import cache
from lib.tradeoffs.cache import Setting
from lib.tradeoffs.game import battery, render
from lib.tradeoffs.interview import Interview, Record
from lib.tradeoffs.replies import CATEGORIES, Reply, parse

if importlib.util.find_spec("inspect_ai"):
    from inspect_ai import task
else:

    def task(function):
        """Without Inspect there is nobody to register the task with."""
        return function


@task
def trade_offs(wording: str = "direct", clause: str = "valenced", max_tokens: int = 1024) -> Any:
    """The 36 trials of the paper, one sample each; as many epochs as replies are wanted.

    The score of a sample says which category `parse` finds, so its means are their shares.

    Raises ImportError without Inspect, ValueError for a wording or clause that does not exist.
    """
    inspect_ai = _inspect()
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    roles = {"system": ChatMessageSystem, "user": ChatMessageUser}
    samples = []
    for number, trial in enumerate(battery(wording=wording, clause=clause)):
        messages = [roles[m["role"]](content=m["content"]) for m in render(trial)]
        samples.append(Sample(id=number, input=messages, metadata=cache.fields_of(trial)))
    return inspect_ai.Task(
        dataset=samples,
        scorer=_category(),
        config=inspect_ai.model.GenerateConfig(temperature=1.0, top_p=1.0, max_tokens=max_tokens),
    )


def from_log(path: str | Path) -> tuple[Interview, Setting]:
    """The replies of a log of `trade_offs`, parsed anew, and how they were drawn.

    Epoch 1 is sample 0. Samples that ended in an error of the server have no reply, and are left
    out.

    Raises ImportError without Inspect, ValueError if the log is of another task.
    """
    _inspect()
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(path))
    records = []
    for sample in log.samples or []:
        if "experiment" not in sample.metadata:
            raise ValueError(f"{path} is a log of {log.eval.task}, not of trade_offs")
        if sample.error is None and sample.output.choices:
            reply = _reply(sample.output)
            trial = cache.trial_of({"trial": sample.metadata})
            records.append(Record(trial, sample.epoch - 1, reply, parse(reply)))
    if not records:
        raise ValueError(f"{path} has no replies")
    config = log.plan.config
    setting = Setting(
        *(
            default if (value := getattr(config, name)) is None else value
            for name, default in Setting()._asdict().items()
        )
    )
    return Interview(log.eval.model, tuple(records)), setting


def _inspect() -> ModuleType:
    try:
        import inspect_ai.model
    except ImportError:
        raise ImportError("inspect-ai is not installed: pip install inspect-ai") from None
    return inspect_ai


def _reply(output: Any) -> Reply:
    reason = "length" if output.stop_reason == "max_tokens" else output.stop_reason
    usage = output.usage and {
        "prompt_tokens": output.usage.input_tokens,
        "completion_tokens": output.usage.output_tokens,
    }
    return Reply(output.completion, reason, usage, output.model)


def _category() -> Any:
    """A scorer that says the category, whose shares Inspect then shows."""
    from inspect_ai.scorer import Score, mean, scorer

    @scorer(metrics={"*": [mean()]})
    def category() -> Any:
        async def score(state: Any, target: Any) -> Any:
            found = parse(_reply(state.output))
            shares = {category: float(category == found) for category in CATEGORIES}
            return Score(value=shares, answer=state.output.completion)

        return score

    return category()
