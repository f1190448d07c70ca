"""Load a downloaded student with plain `transformers` and print its answers beside the teacher's.

    cpd download JOB --out student
    curl … /v1/jobs/JOB/samples > samples.json
    python recipes/side_by_side.py student samples.json

Nothing of this project is imported: what is downloaded needs `transformers` alone. The prompts, the references and the teacher's
answers are those of the job's test rows.
"""

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything that is loaded lies in the folder

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PAPER = (
    "Below is an instruction that describes a task.\n"
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


def main() -> None:
    arguments = argparse.ArgumentParser(description="A downloaded student's answers beside its teacher's.")
    arguments.add_argument("student", type=Path, help="the folder that `cpd download` made")
    arguments.add_argument("samples", type=Path, help="answer of GET /v1/jobs/JOB/samples")
    arguments.add_argument("--count", type=int, default=2, help="how many rows to show")
    given = arguments.parse_args()

    logging.disable_progress_bar()
    rows = json.loads(given.samples.read_text())["data"]
    tokenizer = AutoTokenizer.from_pretrained(given.student)
    model = AutoModelForCausalLM.from_pretrained(given.student).eval()
    spec = json.loads((given.student / "manifest.json").read_text())["provenance"]["spec"]
    shown = spread([row for row in rows if "teacher" in row["answers"]], given.count)
    if not shown:
        sys.exit(f"{given.samples} holds no row with a teacher's answer")
    for number, row in enumerate(shown, start=1):
        answer = generate(model, tokenizer, row, spec["template"])
        print(f"\nprompt {number}:\n{textwrap.indent(row['prompt'].strip(), '  | ')}")
        print(f"  reference: {row['reference']}")
        print(f"  teacher:   {row['answers']['teacher']['text']}")
        print(f"  student:   {answer}")


def generate(model, tokenizer, row, template):
    """The student's answer to a row, by the generation settings that lie in its folder."""
    prompt = render(tokenizer, row, template)
    # A chat template writes its own first token.
    own_start = template == "paper"
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False, add_special_tokens=own_start)
    tokens = model.generate(**inputs)
    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def render(tokenizer, row, template):
    """The prompt as the job wrote it, by its `template`: the paper's, or the tokenizer's chat template."""
    if template == "paper":
        return PAPER.format(instruction=row["instruction"], input=row["input"])
    content = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    turns = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def spread(rows, count):
    """`count` rows at even distances, the first one included."""
    step = max(1, len(rows) // max(1, count))
    return rows[::step][:count]


if __name__ == "__main__":
    main()
