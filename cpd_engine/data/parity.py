"""Two tokenizers side by side: whether they split text alike, end answers alike and write conversations alike.

That both know the same ids is what distillation needs, and is checked before (`check_vocabularies`). What differs beyond that is no
error, as one of them serves both models, but the other model then reads text in a form that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from cpd_engine.data.encode import Template, encode_texts, end_id, render_prompt
from cpd_engine.data.records import Row
from cpd_engine.errors import EngineError
from cpd_engine.events import TokenizersCompared, Warned

# Rows that are looked at: what differs does so in most rows, or in few that nobody would find by more of them.
LOOKED_AT = 64


def compare(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, rows: Sequence[Row], template: Template
) -> TokenizersCompared:
    """The two on the first rows, prompts as the template writes them. Where only one has a chat template, it is the template of both."""
    shown = [rows[place] for place in range(min(LOOKED_AT, len(rows)))]
    prompts, responses = _texts(teacher, student, shown, template), [row.response for row in shown]
    alike = [
        one.tolist() == other.tolist()
        for one, other in zip(
            encode_texts(teacher, [*prompts, *responses], template),
            encode_texts(student, [*prompts, *responses], template),
            strict=True,
        )
    ]
    both = sum(
        of_prompt and of_response
        for of_prompt, of_response in zip(alike[: len(shown)], alike[len(shown) :], strict=True)
    )
    return TokenizersCompared(
        vocabulary=len(teacher.get_vocab()),
        rows=len(shown),
        alike=both,
        teacher_end=_end(teacher if template == "paper" or teacher.chat_template else student, template),
        student_end=_end(student if template == "paper" or student.chat_template else teacher, template),
        same_template=_same_template(teacher, student, shown) if template == "chat" else None,
    )


def differences(found: TokenizersCompared) -> list[Warned]:
    """What a user should know of them."""
    told: list[Warned] = []
    if found.alike < found.rows:
        differ = f"{found.rows - found.alike} of {found.rows} rows"
        message = f"{differ} become other tokens by the teacher's tokenizer than by the student's; one of them serves both models"
        told.append(Warned(code="tokenizers_differ", message=message))
    if found.teacher_end != found.student_end:
        ends = f"the teacher ends an answer with {found.teacher_end or 'nothing'}, the student with {found.student_end or 'nothing'}"
        told.append(Warned(code="ends_differ", message=f"{ends}; both learn and are asked with one of them"))
    if found.same_template is False:
        message = "teacher and student write a conversation by different chat templates; one of them serves both models"
        told.append(Warned(code="templates_differ", message=message))
    return told


def _texts(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, rows: Sequence[Row], template: Template
) -> list[str]:
    """Prompts by one template, the student's where it has one, so that what the tokenizers make of a text is told from the text."""
    writer = teacher if template == "chat" and not student.chat_template else student
    return [render_prompt(writer, row, template) for row in rows]


def _end(tokenizer: PreTrainedTokenizerBase, template: Template) -> str:
    try:
        return str(tokenizer.convert_ids_to_tokens(end_id(tokenizer, template)))
    except EngineError:
        return ""


def _same_template(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, rows: Sequence[Row]
) -> bool | None:
    """None where one of them has none, and takes the other's."""
    if not teacher.chat_template or not student.chat_template:
        return None
    return all(render_prompt(teacher, row, "chat") == render_prompt(student, row, "chat") for row in rows)
