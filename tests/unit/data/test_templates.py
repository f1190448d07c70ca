"""Chat templates are programs of strangers: what they may not do is refused, and soon."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from cpd_engine.data.templates import Limits, Turn, rendered
from cpd_engine.errors import ConfigInvalid
from tests.unit.models.families import tokenizer

TURNS: list[Turn] = [{"role": "user", "content": "one two"}]
BOMBS = {
    "a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "text by multiplication": "{{ 'a' * 10**11 }}",
    "text by doubling": "{% set n = namespace(t='ab') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}{{ n.t }}",
    "a list by multiplication": "{{ ([0] * 10**11) | length }}",
    "a power": "{{ 10 ** (10 ** 10) }}",
    "a padded text": "{{ '%10000000000d' % 1 }}",
    "a long text": "{% for i in range(90000) %}{{ 'abcdefghijklmnopqrstuvwxyz' }}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
}
ESCAPES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['__builtins__'] }}",
    "a format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "the loader": "{{ self._TemplateReference__context.environment.loader }}",
    "an include": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.system('touch %s') }}",
    "a call": "{{ cycler.__init__.__globals__.os.popen('touch %s').read() }}",
}


SOON = Limits(seconds=0.5, memory_bytes=2**28)


@pytest.mark.parametrize("template", BOMBS.values(), ids=BOMBS)
def test_a_template_that_asks_for_too_much_is_refused(template: str) -> None:
    bomb = tokenizer()
    bomb.chat_template = template
    before = resource.getrlimit(resource.RLIMIT_AS)

    with pytest.raises(ConfigInvalid, match="use template: paper") as refused:
        rendered(bomb, TURNS, add_generation_prompt=True, limits=SOON)
    assert refused.value.field == "template"
    assert len(str(refused.value)) < 1000
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


@pytest.mark.parametrize("template", ESCAPES.values(), ids=ESCAPES)
def test_a_template_reaches_nothing_but_its_turns(template: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    escape = tokenizer()
    escape.chat_template = template.replace("%s", str(canary))

    with pytest.raises(ConfigInvalid, match="use template: paper"):
        rendered(escape, TURNS, add_generation_prompt=True)
    assert not canary.exists()


def test_an_ordinary_template_says_what_it_says() -> None:
    plain = tokenizer()
    plain.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"

    assert rendered(plain, TURNS, add_generation_prompt=False) == "<user>one two"
