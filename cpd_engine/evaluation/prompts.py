"""What a model is shown: the templates of instructions (Fig. 5) and of maths problems behind worked examples (Fig. 7). Pure.

The figures' line breaks that only the width of a column makes are not taken over.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpd_engine.data.encode import PAPER_TEMPLATE
from cpd_engine.data.records import Row
from cpd_engine.evaluation.settings import Template

# The two templates of MiniLLM's evaluation, for rows with and without an input.
WITH_INPUT = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
{instruction}

### Input:
{input}

### Response:
"""
WITHOUT_INPUT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
{instruction}

### Response:
"""
_PROBLEM = """\
### Problem:
{problem}
Please reason step by step, and put your final answer within \\boxed{{}}.

### Solution:
"""

Example = tuple[str, str]


def plain_prompt(row: Row, template: Template, examples: Sequence[Example] = ()) -> str:
    """The whole prompt as text. `examples`: (problem, solution), which only maths has."""
    match template:
        case "paper":
            return PAPER_TEMPLATE.format(instruction=row.instruction, input=row.input)
        case "minillm":
            template_text = WITH_INPUT if row.input else WITHOUT_INPUT
            return template_text.format(instruction=row.instruction, input=row.input)
        case "maths":
            shown = (f"{_PROBLEM.format(problem=problem)}{solution}\n\n" for problem, solution in examples)
            return "".join(shown) + _PROBLEM.format(problem=row.instruction)
        case "code":
            return row.instruction


def asked(row: Row, template: Template, examples: Sequence[Example] = ()) -> Row:
    """The row that a chat template renders: instructions as they are, other tasks with their whole prompt as the user's turn."""
    if template in ("paper", "minillm"):
        return row
    text = plain_prompt(row, template, examples)
    return Row(row.id, text, "", row.response, row.references)
